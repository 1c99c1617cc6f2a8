#ifndef LONGPOLL_IMPLEMENTATION
#define LONGPOLL_IMPLEMENTATION
#endif
#include "longpoll.h"
