// The versions of the tile kernels; SupportedTileKernels chooses among them.
// What they share is included here, before the instruction set of a version is chosen.
#ifndef NANN_OPS_CORE_SCORER_TILE_KERNELS_VERSIONS_H_
#define NANN_OPS_CORE_SCORER_TILE_KERNELS_VERSIONS_H_

#include "angle_reduction.h"
#include "tile_kernels.h"

namespace nann {

const TileKernels& GenericTileKernels();
#if defined(__x86_64__)
const TileKernels& Avx2TileKernels();
const TileKernels& Avx512TileKernels();
const TileKernels& Avx512Bfloat16TileKernels();
const TileKernels& AmxTileKernels();
#endif

}  // namespace nann

#endif  // NANN_OPS_CORE_SCORER_TILE_KERNELS_VERSIONS_H_
