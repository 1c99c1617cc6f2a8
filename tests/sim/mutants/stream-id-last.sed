# each event of a reply has the cursor after the last of them
/^static lp_slice lpi_stream_render(lpi_loop \*loop, const lpi_reply \*reply)$/,/^}/ s/batch->messages\[reply->first + i\]->seq;/reply->at[channels[i]].seq;/
