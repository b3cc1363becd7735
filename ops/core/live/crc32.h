// The checksum of segment files.
#ifndef NANN_OPS_CORE_LIVE_CRC32_H_
#define NANN_OPS_CORE_LIVE_CRC32_H_

#include <cstdint>

#include "absl/strings/string_view.h"

namespace nann {

// CRC-32 as zlib, gzip and PNG compute it (ISO 3309, reflected polynomial 0xEDB88320). Thread-safe. It is
// Python's zlib.crc32, so that writers need no library, and the op library links none for it.
uint32_t Crc32(absl::string_view bytes);

}  // namespace nann

#endif  // NANN_OPS_CORE_LIVE_CRC32_H_
