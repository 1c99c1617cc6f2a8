// Answers that are given later, for C++17.
#pragma once
#include "longpoll.hpp"

namespace lp {
// An answer that is owed, on any thread, while the server exists. Copies share
// it; when the last of them goes and none has replied, the answer is 503.
class later {
    lp_deferred request{};
    std::shared_ptr<lp_server> owed;
public:
    later(lp_server *to, lp_request *r, uint32_t timeout_ms = 0) {
        check(lp_defer(r, timeout_ms, &request));
        owed.reset(to, [given = request](lp_server *s) { // the first one counts
            lp_reply_later(s, given, 503, "application/json",
                           lp_s("{\"error\":\"Not answered\"}"));
        });
    }
    bool reply(int status, const char *type, std::string_view body) {
        auto r = lp_reply_later(owed.get(), request, status, type, slice(body));
        if (r != LP_ERR_GONE) check(r);
        return r == LP_OK; // false: nobody waits any more
    }
};
} // namespace lp
