// How long work asks whether it shall end.
#ifndef NANN_OPS_CORE_BASE_IS_CANCELLED_H_
#define NANN_OPS_CORE_BASE_IS_CANCELLED_H_

#include <functional>

namespace nann {

// Whether whoever waits for a result has given up. Called from the thread that works on it.
using IsCancelled = std::function<bool()>;

}  // namespace nann

#endif  // NANN_OPS_CORE_BASE_IS_CANCELLED_H_
