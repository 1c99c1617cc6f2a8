// What demo/examples/longpoll.hpp and later.hpp promise, for examples.test.mjs: each route does one
// thing that their users could.

#define LONGPOLL_IMPLEMENTATION
#include "demo/examples/later.hpp"

#include <chrono>
#include <csignal>
#include <deque>
#include <iostream>
#include <mutex>
#include <string>
#include <thread>

static_assert(std::is_move_constructible_v<lp::server>);
static_assert(!std::is_copy_constructible_v<lp::server> && !std::is_copy_assignable_v<lp::server>);
static_assert(std::is_move_constructible_v<lp::later> && std::is_move_assignable_v<lp::later>);
static_assert(std::is_base_of_v<std::exception, lp::error>);

namespace {

lp_server *running;
int alive; // of the handler that may only be moved

struct counted {
    counted() { alive++; }
    counted(const counted &) = delete;
    ~counted() { alive--; }
};

void function(lp_request *request) { lp_reply(request, 200, "text/plain", lp_s("function")); }

lp::server make(uint16_t port)
{
    lp_config config{};
    config.port = port;
    lp::server server(config);
    server.on("GET", "/before", [](lp_request *r) { lp_reply(r, 200, nullptr, lp_s("before")); });
    return server;
}

// The code of what `call` throws; 0 if it does not.
template <class F> int code(F call)
{
    try { call(); }
    catch (const lp::error &error) { return std::string(error.what()).empty() ? 1 : error.result; }
    return 0;
}

void expect(bool good, const char *what)
{
    if (!good) std::cerr << "wrapper: not so: " << what << '\n';
}

} // namespace

int main()
{
    lp::server first = make(0), server = std::move(first);
    std::deque<lp::later> owed; // and the thread that answers one at a time
    std::mutex mutex;

    expect(code([&] { make(lp_port(server)); }) == LP_ERR_IN_USE, "a port in use is thrown");
    expect(code([&] { server.publish("", "{}"); }) == LP_ERR_ARG, "a bad channel is thrown");
    expect(code([&] { server.publish("news", "nothing"); }) == LP_ERR_JSON, "bad JSON is thrown");
    expect(code([&] { server.on("GET", "no slash", function); }) == LP_ERR_ARG, "a bad path is thrown");
    expect(code([&] { first.publish("news", "{}"); }) == LP_ERR_ARG, "a server that was moved from");
    first.stop(); // does nothing

    server.on("GET", "/function", function);
    server.on("GET", "/moved", [kept = std::make_unique<counted>()](lp_request *r) {
        lp_reply(r, 200, nullptr, lp_s(kept && alive == 1 ? "one" : "not one"));
    });
    server.on("GET", "/throw/exception", [](lp_request *) { throw std::runtime_error("not told"); });
    server.on("GET", "/throw/int", [](lp_request *) { throw 7; });
    server.on("GET", "/throw/after", [](lp_request *r) {
        lp_reply(r, 200, nullptr, lp_s("answered"));
        throw 7;
    });
    server.on("GET", "/throw/later", [&](lp_request *r) {
        lp::later answer(server, r);
        throw 7;
    });
    server.on("POST", "/publish/{channel}", [&](lp_request *r) {
        lp_published out{};
        server.publish(lp::view(lp_param(r, "channel")), lp::view(lp_body(r)), &out);
        lp_reply(r, 200, nullptr, lp_s(out.id));
    });
    server.on("GET", "/drop", [&](lp_request *r) { lp::later answer(server, r); });
    server.on("GET", "/copies", [&](lp_request *r) {
        lp::later answer(server, r);
        { lp::later copy = answer; }
        answer.reply(200, nullptr, "by one of two");
    });
    server.on("GET", "/twice", [&](lp_request *r) {
        lp::later answer(server, r);
        expect(answer.reply(200, nullptr, "once"), "the first answer is given");
        expect(!answer.reply(200, nullptr, "twice"), "the second is not");
    });
    server.on("GET", "/bad", [&](lp_request *r) {
        lp::later answer(server, r);
        expect(code([&] { answer.reply(99, nullptr, ""); }) == LP_ERR_ARG, "a bad status is thrown");
        answer.reply(200, nullptr, "in the end");
    });
    server.on("GET", "/answered", [&](lp_request *r) {
        lp_reply(r, 200, nullptr, lp_s("answered"));
        expect(code([&] { lp::later answer(server, r); }) == LP_ERR_ARG, "nothing is owed any more");
    });
    server.on("GET", "/keep", [&](lp_request *r) {
        std::lock_guard<std::mutex> lock(mutex);
        owed.emplace_back(server, r);
    });
    server.on("GET", "/owed", [&](lp_request *r) {
        std::lock_guard<std::mutex> lock(mutex);
        lp_reply(r, 200, nullptr, lp::slice(std::to_string(owed.size())));
    });
    server.on("GET", "/forget", [&](lp_request *r) { // an assignment lets go of what was there
        std::lock_guard<std::mutex> lock(mutex);
        lp::later next(server, r);
        owed.front() = std::move(next);
        owed.front().reply(200, nullptr, "forgot");
        owed.pop_front();
    });
    server.on("GET", "/pay", [&](lp_request *r) { // another thread answers the oldest
        bool paid = false;
        std::thread([&] {
            std::lock_guard<std::mutex> lock(mutex);
            lp::later oldest = std::move(owed.front());
            owed.pop_front();
            paid = oldest.reply(200, "text/plain", "paid");
        }).join();
        lp_reply(r, 200, nullptr, lp_s(paid ? "yes" : "no"));
    });

    running = server;
    std::signal(SIGTERM, [](int) { lp_stop(running); });
    std::cout << "listening on http://127.0.0.1:" << lp_port(server) << std::endl;
    server.run();
    expect(code([&] { server.publish("news", "{}"); }) == LP_ERR_STOPPED, "the server has stopped");
    owed.clear(); // before the server: while nobody waits any more
    {
        lp::server last = std::move(server);
    }
    expect(alive == 0, "handlers go with their server");
    return 0;
}
