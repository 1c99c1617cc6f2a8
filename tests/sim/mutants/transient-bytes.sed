# what a mark takes is not counted
/^static.* \**lpi_channel_mark(/,/^}/ s/m->size - mark->size/m->size/
