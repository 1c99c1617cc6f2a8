# a fraction is taken for a whole number
# found by tests/unit/json.c
/^static int lpi_json_number_whole(/,/^}/ s/n->exponent < 0 || /n->exponent < -20 || /
