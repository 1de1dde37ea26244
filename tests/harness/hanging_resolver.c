// A resolver that gets no answer: preloaded, it waits for ever with names that end with ".never", and knows no others.
#define _GNU_SOURCE
#include <netdb.h>
#include <dlfcn.h>
#include <string.h>
#include <unistd.h>

int getaddrinfo(const char *restrict node, const char *restrict service, const struct addrinfo *restrict hints,
                struct addrinfo **restrict found) {
    size_t length = node ? strlen(node) : 0;
    if (length > 6 && strcmp(node + length - 6, ".never") == 0)
        for (;;) pause();
    int (*next)(const char *, const char *, const struct addrinfo *, struct addrinfo **) = dlsym(RTLD_NEXT, "getaddrinfo");
    return next(node, service, hints, found);
}
