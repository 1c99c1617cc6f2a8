// A chat with dice, by longpoll.hpp and later.hpp: what is said comes to
// all who poll.
//   c++ -std=c++17 -pthread chat.cpp -o chat
//   curl localhost:8080/api/poll/inn
//   curl -d '{"who":"ann","text":"hello"}' localhost:8080/rooms/inn
//   curl -d '' 'localhost:8080/rooms/inn/dice?sides=20'

#define LONGPOLL_IMPLEMENTATION
#include "later.hpp"

#include <algorithm>
#include <chrono>
#include <csignal>
#include <future>
#include <iostream>
#include <random>
#include <string>
#include <thread>

namespace {

void say(lp::server &server, std::string_view room, std::string_view who,
         std::string_view text)
{
    lp_json json;
    lp_json_init(&json, nullptr);
    std::unique_ptr<lp_json, decltype(&lp_json_free)> end{&json, lp_json_free};
    lp_json_object(&json);
    lp_json_key(&json, lp_s("who"));
    lp_json_string(&json, lp::slice(who));
    lp_json_key(&json, lp_s("text"));
    lp_json_string(&json, lp::slice(text));
    lp_json_end(&json);
    server.publish(room, lp::view(lp_json_text(&json)));
}

// POST /rooms/{room}
void hear(lp::server &server, lp_request *request)
{
    char who[64], text[2000];
    lp_slice body = lp_body(request), w, t;
    if (lp_json_get_string(body, "who", who, sizeof who, &w) != LP_OK ||
        lp_json_get_string(body, "text", text, sizeof text, &t) != LP_OK) {
        lp_reply_error(request, 400, "who and text are to be short strings");
        return;
    }
    say(server, lp::view(lp_param(request, "room")), lp::view(w), lp::view(t));
    lp_reply(request, 204, nullptr, {});
}

// POST /rooms/{room}/dice?sides=6: rolled by a thread of its own
class dice {
    lp::server &server;
    std::vector<std::future<void>> rolls; // awaited when they are destroyed

    void roll(lp::later &answer, const std::string &room, int sides)
    {
        std::random_device random;
        std::uniform_int_distribution<int> any(1, sides);
        std::string side = std::to_string(any(random));
        std::this_thread::sleep_for(std::chrono::milliseconds(200));
        say(server, room, "dice", side); // if that throws, the answer is 503
        answer.reply(200, "application/json", side);
    }

public:
    explicit dice(lp::server &s) : server(s) {}

    void operator()(lp_request *request)
    {
        int64_t sides = 6;
        lp_result given = lp_query_int(request, "sides", &sides);
        if (given == LP_ERR_TYPE || sides < 2 || sides > 100) {
            lp_reply_error(request, 400, "sides is a number from 2 to 100");
            return;
        }
        auto lies = [](const std::future<void> &roll) {
            return roll.wait_for(std::chrono::seconds(0)) ==
                   std::future_status::ready;
        };
        rolls.erase(std::remove_if(rolls.begin(), rolls.end(), lies),
                    rolls.end());
        if (rolls.size() >= 8) {
            lp_reply_error(request, 503, "All dice are in the air");
            return;
        }
        std::string room(lp::view(lp_param(request, "room")));
        lp::later answer(server, request);
        rolls.push_back(std::async(std::launch::async, [=]() mutable {
            roll(answer, room, static_cast<int>(sides));
        }));
    }
};

lp_server *running;

} // namespace

int main(int argc, char **argv) try {
    lp_config config{};
    config.port = 8080;
    config.publish = "off"; // but for say()
    if (argc > 1) lp::check(lp_config_set(&config, "port", argv[1]));
    lp::server server(config);
    server.on("POST", "/rooms/{room}", [&server](lp_request *request) {
        hear(server, request);
    });
    server.on("POST", "/rooms/{room}/dice", dice(server));
    running = server;
    std::signal(SIGTERM, [](int) { lp_stop(running); });
    std::signal(SIGINT, [](int) { lp_stop(running); });
    std::cout << "listening on http://127.0.0.1:" << lp_port(server) << '\n'
              << std::flush;
    server.run();
} catch (const std::exception &error) {
    std::cerr << "chat: " << error.what() << '\n';
    return 1;
}
