# an emitter that was answered with is not freed
# found by tests/unit/route.c
/^LPDEF lp_result lp_reply_json(/,/^}/ s/lp_json_free(json);//
