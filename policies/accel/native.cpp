// Runs a program: a list of operations on float32 buffers, written by policies/accel/native.py.
//
// A decision at batch 1 is ten passes over weights that no level-2 cache holds, with 16 tokens each. What is slow there
// is not arithmetic but calls, layouts and page walks. So: one call per decision, weights packed in panels of 16
// outputs that are read strictly forward from huge pages, and activations transposed once per matrix product, which
// makes the inner loop one load and one fused multiply-add with a broadcast operand per row.

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <vector>
#ifdef _OPENMP
#include <omp.h>
#endif

namespace {

constexpr int LANES = 16;
#ifdef __AVX512F__
constexpr int ROWS = 16;  // 32 vector registers hold 16 rows of accumulators.
#else
constexpr int ROWS = 6;
#endif
constexpr int AHEAD = 64;  // Cache lines of weights to ask for in advance.
constexpr int64_t CACHED = 1 << 17;  // Floats of transposed activations that stay in the level-2 cache.
typedef float Vec __attribute__((vector_size(64), aligned(4)));
typedef uint16_t Half __attribute__((vector_size(32), aligned(2)));
typedef uint32_t Bits __attribute__((vector_size(64)));

struct Op {
  int64_t kind;
  int64_t n[12];
  float f[10];  // An even number: what follows is aligned to eight bytes, here and in native.py.
  void* p[9];
};

enum Kind { LINEAR, LAYERNORM, SELF_ATTENTION, CROSS_ATTENTION, COPY, ADD, STEP, GROUPNORM };
enum Epilogue { STORE, ACCUMULATE, GELU, MISH };

// exp to 2 ulp: 2^n times a polynomial on [-ln 2 / 2, ln 2 / 2]; without branches, for the vectoriser.
inline float exp_(float x) {
  x = std::min(std::max(x, -87.0f), 88.0f);
  const float n = __builtin_rintf(x * 1.44269504f);
  const float r = (x - n * 0.693145752f) - n * 1.42860677e-6f;
  float p = 1.0f / 5040;
  for (float c : {1.0f / 720, 1.0f / 120, 1.0f / 24, 1.0f / 6, 0.5f, 1.0f, 1.0f}) p = p * r + c;
  int32_t bits = (static_cast<int32_t>(n) + 127) << 23;
  float scale;
  std::memcpy(&scale, &bits, 4);
  return p * scale;
}

// Abramowitz & Stegun 7.1.26: |error| < 1.5e-7.
inline float gelu(float x) {
  const float z = x < 0 ? -x * 0.70710678f : x * 0.70710678f;
  const float t = 1.0f / (1.0f + 0.3275911f * z);
  const float tail =
      ((((1.061405429f * t - 1.453152027f) * t + 1.421413741f) * t - 0.284496736f) * t + 0.254829592f) * t * exp_(-z * z);
  return x * 0.5f * (x < 0 ? tail : 2.0f - tail);
}

inline float mish(float x) {
  const float e = exp_(std::min(x, 20.0f));
  const float w = e * (e + 2.0f);
  return x * (w / (w + 2.0f));
}

// Copies up to 16 floats; all 16 without a call.
inline void copy(float* to, const float* from, int64_t width) {
  if (width == LANES)
    std::memcpy(to, from, LANES * sizeof(float));
  else
    std::memcpy(to, from, width * sizeof(float));
}

inline Vec widened(const float* weights) { return *reinterpret_cast<const Vec*>(weights); }

// A bfloat16 is the upper half of a float.
inline Vec widened(const uint16_t* weights) {
  const Bits bits = __builtin_convertvector(*reinterpret_cast<const Half*>(weights), Bits) << 16;
  Vec wide;
  std::memcpy(&wide, &bits, sizeof(wide));
  return wide;
}

// out (R x 16) = windows of a (rows of C, transposed, so that row i of column c is at[c * span + i]) times a panel
// (taps x C x 16). Window r is the rows r to r + taps - 1, one tap each.
template <int R, typename Weight>
void product(const float* at, int64_t span, const Weight* panel, int64_t C, int64_t taps, float* out) {
  constexpr int SUMS = R < 8 ? 8 / R : 1;  // Side by side, or each would wait for its last addition.
  Vec acc[SUMS][R] = {};
  const auto add = [&](const float* a, int sum) {
    __builtin_prefetch(panel + AHEAD * 64 / sizeof(Weight));
    const Vec w = widened(panel);
    panel += LANES;
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) acc[sum][r] += w * a[r];
  };
  for (int64_t tap = 0; tap < taps; ++tap) {
    const float* a = at + tap;
    int64_t c = 0;
    for (; c + SUMS <= C; c += SUMS, a += SUMS * span)
#pragma GCC unroll 8
      for (int sum = 0; sum < SUMS; ++sum) add(a + sum * span, sum);
    for (; c < C; ++c, a += span) add(a, 0);
  }
  for (int r = 0; r < R; ++r) {
    for (int sum = 1; sum < SUMS; ++sum) acc[0][r] += acc[sum][r];
    *reinterpret_cast<Vec*>(out + r * LANES) = acc[0][r];
  }
}

template <typename Weight>
using Product = void (*)(const float*, int64_t, const Weight*, int64_t, int64_t, float*);
template <typename Weight>
const Product<Weight> PRODUCTS[] = {
    nullptr, product<1>, product<2>, product<3>, product<4>, product<5>, product<6>,
#ifdef __AVX512F__
    product<7>, product<8>, product<9>, product<10>, product<11>, product<12>, product<13>, product<14>, product<15>,
    product<16>,
#endif
};

struct Team {
  int rank, size;
  std::vector<float>& scratch;
  // Share of [0, count) in whole units.
  void share(int64_t count, int64_t& begin, int64_t& end) const {
    begin = count * rank / size;
    end = count * (rank + 1) / size;
  }
};

// to = epilogue(y + add), the first `width` of 16 outputs.
void finish(float* y, const float* add, int64_t epilogue, int64_t width, float* to) {
  for (int c = 0; c < LANES; ++c) y[c] += add[c];
  if (epilogue == GELU)
    for (int c = 0; c < LANES; ++c) y[c] = gelu(y[c]);
  else if (epilogue == MISH)
    for (int c = 0; c < LANES; ++c) y[c] = mish(y[c]);
  if (epilogue == ACCUMULATE)
    for (int64_t c = 0; c < width; ++c) to[c] += y[c];
  else
    copy(to, y, width);
}

// For B lanes: dst (T x N) = epilogue(windows of src (T + taps - 1 x C) W^T + bias), weights packed as
// [N / 16][taps][C][16]. Lanes and rows lie as far apart as the operation says; one tap makes a linear layer.
template <typename Weight>
void linear(const Op& op, const Team& team) {
  const int64_t B = op.n[0], T = op.n[1], N = op.n[2], C = op.n[3], taps = op.n[4], epilogue = op.n[9];
  const float* src = static_cast<const float*>(op.p[0]);
  const Weight* weights = static_cast<const Weight*>(op.p[1]);
  const float* bias = static_cast<const float*>(op.p[2]);
  float* dst = static_cast<float*>(op.p[3]);
  const int64_t in_lane = (T + ROWS - 1) / ROWS, blocks = B * in_lane, panels = (N + LANES - 1) / LANES;
  const int64_t size = (ROWS + taps - 1) * C, together = std::min(blocks, std::max<int64_t>(1, CACHED / size));
  int64_t first, last;
  team.share(panels, first, last);
  if (first == last) return;
  team.scratch.resize(together * size);
  const auto row = [&](int64_t block) { return block % in_lane * ROWS; };
  const auto rows = [&](int64_t block) { return std::min<int64_t>(ROWS, T - row(block)); };
  for (int64_t begin = 0; begin < blocks; begin += together) {
    const int64_t end = std::min(begin + together, blocks);
    for (int64_t b = begin; b < end; ++b) {
      const int64_t span = rows(b) + taps - 1;
      const float* from = src + b / in_lane * op.n[5] + row(b) * op.n[6];
      float* at = team.scratch.data() + (b - begin) * size;
      for (int64_t c = 0; c < C; ++c)
        for (int64_t i = 0; i < span; ++i) at[c * span + i] = from[i * op.n[6] + c];
    }
    for (int64_t j = first; j < last; ++j) {
      const int64_t width = std::min<int64_t>(LANES, N - j * LANES);
      float add[LANES] = {}, out[ROWS * LANES];
      if (bias) copy(add, bias + j * LANES, width);
      for (int64_t b = begin; b < end; ++b) {
        const float* at = team.scratch.data() + (b - begin) * size;
        PRODUCTS<Weight>[rows(b)](at, rows(b) + taps - 1, weights + j * taps * C * LANES, C, taps, out);
        float* to = dst + b / in_lane * op.n[7] + row(b) * op.n[8] + j * LANES;
        for (int64_t r = 0; r < rows(b); ++r) finish(out + r * LANES, add, epilogue, width, to + r * op.n[8]);
      }
    }
  }
}

void layernorm(const Op& op, const Team& team) {
  const int64_t n = op.n[1];
  const float* gain = static_cast<const float*>(op.p[1]);
  const float* bias = static_cast<const float*>(op.p[2]);
  int64_t row, end;
  for (team.share(op.n[0], row, end); row < end; ++row) {
    const float* x = static_cast<const float*>(op.p[0]) + row * n;
    float* y = static_cast<float*>(op.p[3]) + row * n;
    float mean = 0, square = 0;
    for (int64_t j = 0; j < n; ++j) mean += x[j];
    mean /= n;
    for (int64_t j = 0; j < n; ++j) square += (x[j] - mean) * (x[j] - mean);
    const float scale = 1.0f / __builtin_sqrtf(square / n + 1e-5f);
    for (int64_t j = 0; j < n; ++j) y[j] = (x[j] - mean) * scale * gain[j] + bias[j];
  }
}

// Replaces x (groups x width) by the means of the groups times `factor`.
void spread(float* x, int64_t groups, int64_t width, float factor) {
  for (int64_t g = 0; g < groups; ++g, x += width) {
    float sum = 0;
    for (int64_t c = 0; c < width; ++c) sum += x[c];
    std::fill_n(x, width, sum * factor);
  }
}

// For B lanes: dst (T x G w) = mish(group norm of src) [* scale + shift] [+ add]. Scales and shifts (2 G w) are the sum
// of what the diffusion step says, `level`, and what lane b's condition says, `seen`. Threads share groups.
void groupnorm(const Op& op, const Team& team) {
  const int64_t B = op.n[0], T = op.n[1], G = op.n[2], w = op.n[3], C = G * w;
  const float* level = static_cast<const float*>(op.p[5]);
  int64_t first, last;
  team.share(G, first, last);
  const int64_t n = (last - first) * w, at = first * w, room = (n + LANES - 1) / LANES * LANES;
  if (!n) return;
  team.scratch.resize(5 * room);
  float *mean = team.scratch.data(), *scale = mean + room, *offset = scale + room, *film = offset + room,
        *shift = film + room;
  std::memcpy(offset, static_cast<const float*>(op.p[2]) + at, n * sizeof(float));
  for (int64_t b = 0; b < B; ++b) {
    const float* src = static_cast<const float*>(op.p[0]) + b * op.n[4] + at;
    std::fill_n(mean, 2 * room, 0.0f);
    for (int64_t t = 0; t < T; ++t)
      for (int64_t c = 0; c < n; ++c) mean[c] += src[t * op.n[5] + c];
    spread(mean, last - first, w, 1.0f / (T * w));
    for (int64_t t = 0; t < T; ++t)
      for (int64_t c = 0; c < n; ++c) {
        const float off = src[t * op.n[5] + c] - mean[c];
        scale[c] += off * off;
      }
    spread(scale, last - first, w, 1.0f / (T * w));
    const float* gain = static_cast<const float*>(op.p[1]) + at;
    const float* seen = static_cast<const float*>(op.p[6]) + (level ? b * op.n[10] + at : 0);
    for (int64_t c = 0; c < room; ++c) scale[c] = 1.0f / __builtin_sqrtf(scale[c] + 1e-5f);
    for (int64_t c = 0; c < n; ++c) {
      scale[c] *= gain[c];
      film[c] = level ? level[at + c] + seen[c] : 1.0f;
      shift[c] = level ? level[C + at + c] + seen[C + c] : 0.0f;
    }
    for (int64_t t = 0; t < T; ++t) {
      const float* x = src + t * op.n[5];
      const float* add = static_cast<const float*>(op.p[4]);
      if (add) add += b * op.n[8] + t * op.n[9] + at;
      float* y = static_cast<float*>(op.p[3]) + b * op.n[6] + t * op.n[7] + at;
      // Always as many at a time: what vectors and what scalars compute differs in the last bit.
      for (int64_t c = 0; c < n; c += LANES) {
        const int64_t width = std::min<int64_t>(LANES, n - c);
        float v[LANES] = {}, plus[LANES] = {};
        copy(v, x + c, width);
        if (add) copy(plus, add + c, width);
        for (int i = 0; i < LANES; ++i)
          v[i] = mish((v[i] - mean[c + i]) * scale[c + i] + offset[c + i]) * film[c + i] + shift[c + i] + plus[i];
        copy(y + c, v, width);
      }
    }
  }
}

float dot(const float* a, const float* b, int64_t n) {
  float sum = 0;
  for (int64_t j = 0; j < n; ++j) sum += a[j] * b[j];
  return sum;
}

void softmax(float* scores, int64_t n) {
  float top = scores[0], sum = 0;
  for (int64_t s = 1; s < n; ++s) top = std::max(top, scores[s]);
  for (int64_t s = 0; s < n; ++s) sum += scores[s] = exp_(scores[s] - top);
  for (int64_t s = 0; s < n; ++s) scores[s] /= sum;
}

void axpy(float a, const float* x, float* y, int64_t n) {
  for (int64_t j = 0; j < n; ++j) y[j] += a * x[j];
}

// dst (B T x n) = causal attention of qkv (B T x 3 n); queries are scaled already.
void self_attention(const Op& op, const Team& team) {
  const int64_t B = op.n[0], T = op.n[1], H = op.n[2], d = op.n[3], n = H * d;
  const float* qkv = static_cast<const float*>(op.p[0]);
  float* dst = static_cast<float*>(op.p[1]);
  std::vector<float>& scores = team.scratch;
  scores.resize(T);
  int64_t unit, end;
  for (team.share(B * H, unit, end); unit < end; ++unit) {
    const float* of = qkv + (unit / H) * T * 3 * n + (unit % H) * d;
    float* to = dst + (unit / H) * T * n + (unit % H) * d;
    for (int64_t t = 0; t < T; ++t) {
      for (int64_t s = 0; s <= t; ++s) scores[s] = dot(of + t * 3 * n, of + s * 3 * n + n, d);
      softmax(scores.data(), t + 1);
      std::fill_n(to + t * n, d, 0.0f);
      for (int64_t s = 0; s <= t; ++s) axpy(scores[s], of + s * 3 * n + 2 * n, to + t * n, d);
    }
  }
}

// Attention to a folded memory of S tokens, each with keys (H, n), bias (H) and values (H, n): first the diffusion
// step's, then those of lane b's observations and context. Observation s is seen from action s - 1 on, what follows the
// To observations by all actions. dst = or += values + out_bias.
void cross_attention(const Op& op, const Team& team) {
  const int64_t B = op.n[0], T = op.n[1], H = op.n[2], n = op.n[3], S = op.n[4], To = op.n[5], ld_bias = op.n[6];
  const float* h = static_cast<const float*>(op.p[0]);
  float* dst = static_cast<float*>(op.p[1]);
  const float* const* own = reinterpret_cast<const float* const*>(op.p + 2);  // Keys, bias, values.
  const float* const* seen = reinterpret_cast<const float* const*>(op.p + 5);
  const float* out_bias = static_cast<const float*>(op.p[8]);
  float scores[64];
  int64_t row, end;
  for (team.share(B * T, row, end); row < end; ++row) {
    const int64_t token = row / T * (S - 1), t = row % T;
    const float* x = h + row * n;
    float* y = dst + row * n;
    if (op.n[7] == ACCUMULATE)
      axpy(1.0f, out_bias, y, n);
    else
      std::memcpy(y, out_bias, n * sizeof(float));
    for (int64_t head = 0; head < H; ++head) {
      scores[0] = dot(x, own[0] + head * n, n) + own[1][head];
      for (int64_t s = 1; s < S; ++s) {
        const bool visible = t >= s - 1 || s > To;
        const int64_t at = token + s - 1;
        scores[s] = visible ? dot(x, seen[0] + (at * H + head) * n, n) + seen[1][at * ld_bias + head] : -1e30f;
      }
      softmax(scores, S);
      axpy(scores[0], own[2] + head * n, y, n);
      for (int64_t s = 1; s < S; ++s) axpy(scores[s], seen[2] + ((token + s - 1) * H + head) * n, y, n);
    }
  }
}

// x = f4 clip(x0) + f5 x + f6 eps + f7 noise + f8 before, where x0 = f0 x + f1 pred and eps = f2 x + f3 pred;
// clip(x0) is the next step's before.
void step(const Op& op) {
  float* x = static_cast<float*>(op.p[0]);
  const float* pred = static_cast<const float*>(op.p[1]);
  const float* noise = static_cast<const float*>(op.p[2]);
  float* before = static_cast<float*>(op.p[3]);
  const float* f = op.f;
  for (int64_t j = 0; j < op.n[0]; ++j) {
    float x0 = f[0] * x[j] + f[1] * pred[j];
    const float eps = f[2] * x[j] + f[3] * pred[j];
    if (op.n[1]) x0 = std::min(std::max(x0, -1.0f), 1.0f);
    x[j] = f[4] * x0 + f[5] * x[j] + f[6] * eps + (noise ? f[7] * noise[j] : 0.0f);
    if (before) {
      if (f[8] != 0.0f) x[j] += f[8] * before[j];  // A descent's first step must not see what the last one left.
      before[j] = x0;
    }
  }
}

void run_op(const Op& op, const Team& team) {
  switch (op.kind) {
    case LINEAR: return op.n[10] ? linear<uint16_t>(op, team) : linear<float>(op, team);
    case LAYERNORM: return layernorm(op, team);
    case SELF_ATTENTION: return self_attention(op, team);
    case CROSS_ATTENTION: return cross_attention(op, team);
    case GROUPNORM: return groupnorm(op, team);
    default: break;
  }
  if (team.rank) return;  // The rest is too small to be shared.
  switch (op.kind) {
    case COPY:
      for (int64_t b = 0; b < op.n[1]; ++b)
        std::memcpy(static_cast<float*>(op.p[1]) + b * op.n[0], op.p[0], op.n[0] * sizeof(float));
      return;
    case ADD: return axpy(1.0f, static_cast<const float*>(op.p[0]), static_cast<float*>(op.p[1]), op.n[0]);
    case STEP: return step(op);
  }
}

}  // namespace

extern "C" void run(const Op* ops, int64_t count, int32_t threads) {
  if (threads <= 1) {
    static thread_local std::vector<float> scratch;
    for (int64_t i = 0; i < count; ++i) run_op(ops[i], {0, 1, scratch});
    return;
  }
#pragma omp parallel num_threads(threads)
  {
    static thread_local std::vector<float> scratch;
    int rank = 0, size = 1;
#ifdef _OPENMP
    rank = omp_get_thread_num(), size = omp_get_num_threads();
#endif
    for (int64_t i = 0; i < count; ++i) {
      run_op(ops[i], {rank, size, scratch});
#pragma omp barrier
    }
  }
}
