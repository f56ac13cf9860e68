/* By which way rows of activations travel between the ranks: MPI, or NCCL where all ranks compute
 * on GPUs (comm/nccl). --transport nccl is a demand; auto takes NCCL if it is there and faster, for
 * messages from a size on that is measured here. Layering: launcher. */
#ifndef SHOAL_LAUNCHER_EXCHANGE_H
#define SHOAL_LAUNCHER_EXCHANGE_H

#include "launcher/session.h"

/* When devices are open, before the model is. Collective; all return the same, said once. Errors:
 * USAGE (nccl, but a rank computes on its processor), UNAVAILABLE (nccl: the library is not there,
 * or does not come up), NO_MEMORY, and what comm finds. */
shoal_status shoal_exchange_choose(shoal_session *session);

#endif
