/* The instruction by which a guest's program tells the emulator's plugin where what is measured begins and ends: NOP
   with a 32-bit displacement that no compiler writes, encoded as 0F 1F 84 00 and the displacement. */
#ifndef GATEHOUSE_BENCH_MARKER_H
#define GATEHOUSE_BENCH_MARKER_H

#define MARKER_BEGIN 0x4e474247 /* "GBGN" in memory */
#define MARKER_END 0x444e4547   /* "GEND" */

#endif
