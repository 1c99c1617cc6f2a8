# a stream begins without a cursor
# found by tests/unit/stream.c
/^static lp_slice lpi_stream_head(/,/^}/ s/if (count) to =/if (count > 99) to =/
