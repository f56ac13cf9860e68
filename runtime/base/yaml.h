/* The door to libcyaml: files that people write. Callers describe their struct with cyaml's schema
 * types (this header is the only one that includes cyaml) and get error texts that name the file.
 * Layering: base. */
#ifndef SHOAL_BASE_YAML_H
#define SHOAL_BASE_YAML_H

#include "runtime/base/log.h"

#include <cyaml/cyaml.h>

/* Load `path` into a new struct described by `schema` (a pointer-to-mapping). Owned by the caller:
 * shoal_yaml_close with the same schema. Errors: NO_INPUT, BAD_DATA (unknown key, wrong type,
 * syntax). */
shoal_status shoal_yaml_read_file(void **data, const char *path, const cyaml_schema_value_t *schema,
                                  shoal_log *log);
void shoal_yaml_close(void *data, const cyaml_schema_value_t *schema); /* accepts NULL data */

#endif
