# the fields that the handler has added are lost
# found by tests/unit/later.c
/^static.* lpi_later_end(/,/^}/ s/lpi_text_add(&loop->extra, later->lines);//
