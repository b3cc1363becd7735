// Kernels of single numbers, for any vector width. Included by one file an instruction set, inside its own
// namespace, after tile_functions_inl.h and tile_angles_inl.h, under the same conditions.

constexpr int32_t kLanes[kStrip] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};

// Lanes from `width` on, which lie beyond the row, become `rest`.
NANN_SIMD Vec LoadRow(const float* row, int64_t column, int64_t width, float rest) {
  const Vec x = Load(row + column);
  if (column + kWidth <= width) return x;
  IntVec lane;
  __builtin_memcpy(&lane, kLanes, sizeof(lane));
  const IntVec end = lane * 0 + static_cast<int32_t>(width - column);
  return lane < end ? x : Set(rest);
}

// An operand's floats of a row of its block, from a column on.
NANN_SIMD Vec LoadOperand(const Operand& operand, int64_t row, int64_t column) {
  const float* data = operand.view.data + row * operand.view.stride;
  return operand.column ? Set(data[0]) : Load(data + column);
}

NANN_KERNEL void Binary(BinaryOp op, Operand a, Operand b, Extent extent, float* out);

// One number per row: a vector of them at a time.
NANN_KERNEL void BinaryOfColumns(BinaryOp op, Operand a, Operand b, Extent extent, float* out) {
  for (int64_t block = 0; block < extent.blocks; ++block) {
    for (int64_t row = 0; row < extent.rows; row += kStrip) {
      const int64_t count = extent.rows - row < kStrip ? extent.rows - row : kStrip;
      float left[kStrip] = {}, right[kStrip] = {};
      for (int64_t i = 0; i < count; ++i) {
        left[i] = a.view.data[block * a.block + (row + i) * a.view.stride];
        right[i] = b.view.data[block * b.block + (row + i) * b.view.stride];
      }
      Binary(op, {{left, 0}}, {{right, 0}}, {1, 1, kStrip, kStrip}, left);
      for (int64_t i = 0; i < count; ++i, out += extent.stride) *out = left[i];
    }
  }
}

#define NANN_BINARY_LOOP(expression)                                                \
  for (int64_t block = 0; block < extent.blocks; ++block) {                         \
    for (int64_t row = 0; row < extent.rows; ++row, out += extent.stride) {         \
      for (int64_t column = 0; column < extent.columns; column += kWidth) {         \
        const Vec x = LoadOperand(a, row, column), y = LoadOperand(b, row, column); \
        Store(out + column, expression);                                            \
      }                                                                             \
    }                                                                               \
    a.view.data += a.block;                                                         \
    b.view.data += b.block;                                                         \
  }                                                                                 \
  return

NANN_KERNEL void Binary(BinaryOp op, Operand a, Operand b, Extent extent, float* out) {
  if (op == BinaryOp::kAtan2 && extent.columns == 1 && extent.rows > 1) {
    return BinaryOfColumns(op, a, b, extent, out);
  }
  switch (op) {
    case BinaryOp::kAdd:
      NANN_BINARY_LOOP(x + y);
    case BinaryOp::kSub:
      NANN_BINARY_LOOP(x - y);
    case BinaryOp::kMul:
      NANN_BINARY_LOOP(x * y);
    case BinaryOp::kDiv:
      NANN_BINARY_LOOP(x / y);
    case BinaryOp::kMax:
      NANN_BINARY_LOOP(Larger(x, y));
    case BinaryOp::kMin:
      NANN_BINARY_LOOP(Smaller(x, y));
    case BinaryOp::kSquaredDifference:
      NANN_BINARY_LOOP((x - y) * (x - y));
    case BinaryOp::kEqual:
      NANN_BINARY_LOOP((x == y ? Set(1.0f) : Set(0.0f)));
    case BinaryOp::kNotEqual:
      NANN_BINARY_LOOP((x != y ? Set(1.0f) : Set(0.0f)));
    case BinaryOp::kGreater:
      NANN_BINARY_LOOP((x > y ? Set(1.0f) : Set(0.0f)));
    case BinaryOp::kGreaterEqual:
      NANN_BINARY_LOOP((x >= y ? Set(1.0f) : Set(0.0f)));
    case BinaryOp::kAtan2:
      NANN_BINARY_LOOP(Direction(x, y));
  }
}
#undef NANN_BINARY_LOOP

NANN_KERNEL void Select(Operand condition, Operand a, Operand b, Extent extent, float* out) {
  for (int64_t block = 0; block < extent.blocks; ++block) {
    for (int64_t row = 0; row < extent.rows; ++row, out += extent.stride) {
      for (int64_t column = 0; column < extent.columns; column += kWidth) {
        const Vec x = LoadOperand(a, row, column), y = LoadOperand(b, row, column);
        Store(out + column, LoadOperand(condition, row, column) != Set(0.0f) ? x : y);
      }
    }
    condition.view.data += condition.block;
    a.view.data += a.block;
    b.view.data += b.block;
  }
}

NANN_KERNEL void Unary(UnaryOp op, RowsView in, int64_t rows, int64_t width, float* out, int64_t out_stride);

// As BinaryOfColumns.
NANN_KERNEL void UnaryOfColumn(UnaryOp op, RowsView in, int64_t rows, float* out, int64_t out_stride) {
  for (int64_t row = 0; row < rows; row += kStrip) {
    const int64_t count = rows - row < kStrip ? rows - row : kStrip;
    float some[kStrip] = {};
    for (int64_t i = 0; i < count; ++i) some[i] = in.data[(row + i) * in.stride];
    Unary(op, {some, 0}, 1, kStrip, some, kStrip);
    for (int64_t i = 0; i < count; ++i) out[(row + i) * out_stride] = some[i];
  }
}

#define NANN_LOOP(load, expression)                              \
  for (int64_t row = 0; row < rows; ++row) {                     \
    for (int64_t column = 0; column < width; column += kWidth) { \
      const Vec x = load;                                        \
      Store(out + row * out_stride + column, expression);        \
    }                                                            \
  }                                                              \
  return
#define NANN_UNARY_LOOP(expression) NANN_LOOP(Load(in.data + row * in.stride + column), expression)
// What lies behind a row may be large, and large angles take long.
#define NANN_ANGLE_LOOP(expression) \
  NANN_LOOP(LoadRow(in.data + row * in.stride, column, width, 0.0f), expression)

NANN_KERNEL void Unary(UnaryOp op, RowsView in, int64_t rows, int64_t width, float* out, int64_t out_stride) {
  if (width == 1 && rows > 1) return UnaryOfColumn(op, in, rows, out, out_stride);
  switch (op) {
    case UnaryOp::kNeg:
      NANN_UNARY_LOOP(-x);
    case UnaryOp::kRelu:
      NANN_UNARY_LOOP(Relu(x));
    case UnaryOp::kRelu6:
      NANN_UNARY_LOOP(Smaller(Relu(x), Set(6.0f)));
    case UnaryOp::kSquare:
      NANN_UNARY_LOOP(x * x);
    case UnaryOp::kSqrt:
      NANN_UNARY_LOOP(SquareRoot(x));
    case UnaryOp::kRsqrt:
      NANN_UNARY_LOOP(Set(1.0f) / SquareRoot(x));
    case UnaryOp::kReciprocal:
      NANN_UNARY_LOOP(Set(1.0f) / x);
    case UnaryOp::kExp:
      NANN_UNARY_LOOP(Exp(x));
    case UnaryOp::kSigmoid:
      NANN_UNARY_LOOP(Sigmoid(x));
    case UnaryOp::kTanh:
      NANN_UNARY_LOOP(Tanh(x));
    case UnaryOp::kErf:
      NANN_UNARY_LOOP(Erf(x));
    case UnaryOp::kAbs:
      NANN_UNARY_LOOP((x < Set(0.0f) ? -x : x));
    case UnaryOp::kExpm1:
      NANN_UNARY_LOOP(Expm1(x));
    case UnaryOp::kLog:
      NANN_UNARY_LOOP(Log(x));
    case UnaryOp::kLog1p:
      NANN_UNARY_LOOP(Log1p(x));
    case UnaryOp::kSoftplus:
      NANN_UNARY_LOOP(Softplus(x));
    case UnaryOp::kElu:
      NANN_UNARY_LOOP(Elu(x));
    case UnaryOp::kFloor:
      NANN_UNARY_LOOP(Floor(x));
    case UnaryOp::kSilu:
      NANN_UNARY_LOOP(Silu(x));
    case UnaryOp::kTwiceGelu:
      NANN_UNARY_LOOP(TwiceGelu(x));
    case UnaryOp::kSin:
      NANN_ANGLE_LOOP(Sine(x));
    case UnaryOp::kCos:
      NANN_ANGLE_LOOP(Cosine(x));
    case UnaryOp::kTan:
      NANN_ANGLE_LOOP(Tangent(x));
    case UnaryOp::kAsin:
      NANN_UNARY_LOOP(Direction(x, CosineOfSine(x)));
    case UnaryOp::kAcos:
      NANN_UNARY_LOOP(Direction(CosineOfSine(x), x));
    case UnaryOp::kAtan:
      NANN_UNARY_LOOP(Direction(x, Set(1.0f)));
  }
}

NANN_KERNEL void Prelu(RowsView in, const float* alpha, int64_t rows, int64_t width, float* out,
                       int64_t out_stride) {
  NANN_UNARY_LOOP((x < Set(0.0f) ? x * Load(alpha + column) : x));
}
#undef NANN_ANGLE_LOOP
#undef NANN_UNARY_LOOP
#undef NANN_LOOP
