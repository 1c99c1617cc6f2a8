# a poll that is like the last is as long as that one
/^static size_t lpi_memo_fill(/,/^}/ s/return n ? (size_t)(text.bytes - first) + n : 0;/return n ? memo->length : 0;/
