/* mark begin|end: executes a marker, in the guest. See marker.h. */
#include <string.h>

#include "tests/bench/marker.h"

#define MARK(displacement) __asm__ volatile(".byte 0x0f, 0x1f, 0x84, 0x00\n\t.long %c0" : : "i"(displacement))

int main(int count, char** words) {
    if (count == 2 && strcmp(words[1], "begin") == 0) {
        MARK(MARKER_BEGIN);
        return 0;
    }
    if (count == 2 && strcmp(words[1], "end") == 0) {
        MARK(MARKER_END);
        return 0;
    }
    return 2;
}
