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
typedef float Vec __attribute__((vector_size(64), aligned(4)));

struct Op {
  int64_t kind;
  int64_t n[8];
  float f[8];
  void* p[9];
};

enum Kind { LINEAR, LAYERNORM, SELF_ATTENTION, CROSS_ATTENTION, COPY, ADD, STEP };
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

// out (R x 16) = a^T (K x ROWS, transposed) times a panel (K x 16).
template <int R>
void product(const float* at, const float* panel, int64_t K, float* out) {
  Vec acc[R] = {};
  for (int64_t k = 0; k < K; ++k) {
    __builtin_prefetch(panel + (k + AHEAD) * LANES);
    const Vec w = *reinterpret_cast<const Vec*>(panel + k * LANES);
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) acc[r] += w * at[k * ROWS + r];
  }
  for (int r = 0; r < R; ++r) *reinterpret_cast<Vec*>(out + r * LANES) = acc[r];
}

using Product = void (*)(const float*, const float*, int64_t, float*);
const Product PRODUCTS[] = {
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

// dst (M x N, stride ldc) = epilogue(src (M x K, stride lda) W^T + bias); weights packed as [N / 16][K][16].
void linear(const Op& op, const Team& team) {
  const int64_t M = op.n[0], N = op.n[1], K = op.n[2], lda = op.n[3], ldc = op.n[4], epilogue = op.n[5];
  const float* src = static_cast<const float*>(op.p[0]);
  const float* weights = static_cast<const float*>(op.p[1]);
  const float* bias = static_cast<const float*>(op.p[2]);
  float* dst = static_cast<float*>(op.p[3]);
  const int64_t blocks = (M + ROWS - 1) / ROWS, panels = (N + LANES - 1) / LANES;
  int64_t first, last;
  team.share(panels, first, last);
  if (first == last) return;
  team.scratch.resize(blocks * ROWS * K);
  float* at = team.scratch.data();
  for (int64_t b = 0; b < blocks; ++b) {
    const int64_t rows = std::min<int64_t>(ROWS, M - b * ROWS);
    for (int64_t k = 0; k < K; ++k)
      for (int64_t r = 0; r < rows; ++r) at[(b * K + k) * ROWS + r] = src[(b * ROWS + r) * lda + k];
  }
  for (int64_t j = first; j < last; ++j) {
    const int64_t width = std::min<int64_t>(LANES, N - j * LANES);
    float add[LANES] = {};
    if (bias) std::memcpy(add, bias + j * LANES, width * sizeof(float));
    for (int64_t b = 0; b < blocks; ++b) {
      const int64_t rows = std::min<int64_t>(ROWS, M - b * ROWS);
      float out[ROWS * LANES];
      PRODUCTS[rows](at + b * K * ROWS, weights + j * K * LANES, K, out);
      for (int64_t r = 0; r < rows; ++r) {
        float* y = out + r * LANES;
        float* to = dst + (b * ROWS + r) * ldc + j * LANES;
        for (int c = 0; c < LANES; ++c) y[c] += add[c];
        if (epilogue == GELU)
          for (int c = 0; c < LANES; ++c) y[c] = gelu(y[c]);
        else if (epilogue == MISH)
          for (int c = 0; c < LANES; ++c) y[c] = mish(y[c]);
        if (epilogue == ACCUMULATE)
          for (int64_t c = 0; c < width; ++c) to[c] += y[c];
        else
          std::memcpy(to, y, width * sizeof(float));
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

// x = f4 clip(x0) + f5 x + f6 eps + f7 noise, where x0 = f0 x + f1 pred and eps = f2 x + f3 pred.
void step(const Op& op) {
  float* x = static_cast<float*>(op.p[0]);
  const float* pred = static_cast<const float*>(op.p[1]);
  const float* noise = static_cast<const float*>(op.p[2]);
  const float* f = op.f;
  for (int64_t j = 0; j < op.n[0]; ++j) {
    float x0 = f[0] * x[j] + f[1] * pred[j];
    const float eps = f[2] * x[j] + f[3] * pred[j];
    if (op.n[1]) x0 = std::min(std::max(x0, -1.0f), 1.0f);
    x[j] = f[4] * x0 + f[5] * x[j] + f[6] * eps + (noise ? f[7] * noise[j] : 0.0f);
  }
}

void run_op(const Op& op, const Team& team) {
  switch (op.kind) {
    case LINEAR: return linear(op, team);
    case LAYERNORM: return layernorm(op, team);
    case SELF_ATTENTION: return self_attention(op, team);
    case CROSS_ATTENTION: return cross_attention(op, team);
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
