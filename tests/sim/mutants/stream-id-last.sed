# each event of a reply has the cursor after the last of them
/^static lp_slice lpi_stream_render(/,/^}/ s/seqs\[channels\[i\]\]--;/seqs[channels[i]] -= 0;/
