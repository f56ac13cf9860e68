#include "runtime/base/status.h"

int shoal_status_exit_code(shoal_status status)
{
    switch (status) {
#define SHOAL_STATUS_CODE(name, code, text)                                                        \
    case SHOAL_##name:                                                                             \
        return code;
        SHOAL_STATUS_MAP(SHOAL_STATUS_CODE)
#undef SHOAL_STATUS_CODE
    }
    return 1;
}

const char *shoal_status_text(shoal_status status)
{
    switch (status) {
#define SHOAL_STATUS_TEXT(name, code, text)                                                        \
    case SHOAL_##name:                                                                             \
        return text;
        SHOAL_STATUS_MAP(SHOAL_STATUS_TEXT)
#undef SHOAL_STATUS_TEXT
    }
    return "unknown status";
}
