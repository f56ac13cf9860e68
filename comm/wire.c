#include "comm/wire.h"

shoal_wire shoal_wire_format(bool fast, bool quantised, shoal_combine_kind kind)
{
    if (!fast)
        return (shoal_wire){SHOAL_WIRE_F32, SHOAL_WIRE_F32, kind};
    return (shoal_wire){quantised ? SHOAL_WIRE_INT8 : SHOAL_WIRE_BF16, SHOAL_WIRE_BF16, kind};
}
