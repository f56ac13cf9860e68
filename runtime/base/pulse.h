/* Long work that nobody watches looks like death to the other ranks. What may take seconds (reading
 * a huge file, encoding a huge text) takes a pulse and beats it now and then: signs of life go out,
 * and a status other than OK ends the work with that status.
 * Layering: base. */
#ifndef SHOAL_BASE_PULSE_H
#define SHOAL_BASE_PULSE_H

#include "runtime/base/status.h"

#include <stddef.h>

typedef struct shoal_pulse {
    shoal_status (*beat)(void *arg); /* NULL: nothing happens */
    void *arg;
} shoal_pulse;

/* Accepts NULL. */
static inline shoal_status shoal_pulse_beat(const shoal_pulse *pulse)
{
    return pulse != NULL && pulse->beat != NULL ? pulse->beat(pulse->arg) : SHOAL_OK;
}

#endif
