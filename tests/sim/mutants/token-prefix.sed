# of a signature only the first half is compared
/^static int lpi_equal_constant_time(/,/^}/ s/i < a\.length;/i < a.length \&\& i < 16;/
