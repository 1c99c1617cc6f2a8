# each event of a reply has the cursor after the last of them
/^static void lpi_stream_start(/,/^}/ s/at\[channels\[i\]\]\.seq--;/at[channels[i]].seq -= 0;/
