# 2^63 is an int64_t
# found by tests/unit/json.c
/^static int lpi_signed(/,/^}/ s/(uint64_t)INT64_MAX + /(uint64_t)INT64_MAX + 1 + /
