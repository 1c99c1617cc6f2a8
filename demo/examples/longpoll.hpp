// longpoll.h for C++17: a failure throws lp::error, and what is made is freed.
#pragma once
#include "longpoll.h"
#include <memory>
#include <stdexcept>
#include <string_view>
#include <vector>

namespace lp {
inline lp_slice slice(std::string_view s) { return {s.data(), s.size()}; }
inline std::string_view view(lp_slice s) { return {s.bytes, s.length}; }
struct error : std::runtime_error {
    explicit error(lp_result r) : runtime_error(lp_strerror(r)), result(r) {}
    lp_result result;
};
inline void check(lp_result r) { if (r < LP_OK) throw error(r); }

class server { // movable; to the calls of longpoll.h it is an lp_server *
    std::unique_ptr<lp_server, decltype(&lp_destroy)> made{nullptr, lp_destroy};
    std::vector<std::shared_ptr<void>> handlers; // end before the server
public:
    server(server &&) = default;
    explicit server(const lp_config &config = {}) {
        lp_server *created = nullptr;
        check(lp_create(&created, &config));
        made.reset(created);
    }
    operator lp_server *() const { return made.get(); }
    void run() { check(lp_run(*this)); }
    void stop() { lp_stop(*this); } // on any thread, and publish() too
    void publish(std::string_view channel, std::string_view json,
                 lp_published *out = nullptr) {
        check(lp_publish(*this, slice(channel), slice(json), out));
    }
    // Call f(lp_request *). Whatever that throws is answered with 500.
    template <class F> void on(const char *method, const char *path, F f) {
        handlers.push_back(std::make_shared<F>(std::move(f)));
        check(lp_on(*this, method, path, [](lp_request *request, void *ctx) {
            try { (*static_cast<F *>(ctx))(request); }
            catch (...) { lp_reply_error(request, 500, "Internal error"); }
        }, handlers.back().get()));
    }
};
} // namespace lp
