// The Newton-Schulz iteration in bfloat16 on a stack of matrices, as phases for runtime.cpp: products with float32 sums,
// each rounded once. It is written for AVX-512 processors that multiply pairs of bfloat16.
//
// A matrix is held tall, X of m x n with m >= n, padded with zeros to whole blocks of SIDE x SIDE. Of what the products
// need, nothing is ever packed: whoever writes a value writes it in the order in which it will be read.
//   rows:  X row by row, the left factor of XQ;
//   pairs: a matrix cut into panels of SIDE columns. In a panel, a word of 32 bits holds rows 2k and 2k + 1 of one
//          column. Of X, this is both factors of X'X. A symmetric matrix is held in pairs alone, and is either factor.
// Of a symmetric product only blocks up to the diagonal are computed; the others are their mirror images.
#include <cmath>
#include <cstdint>
#ifdef __AVX512BF16__
#include <immintrin.h>

enum { SIDE = 32, PAIRS = SIDE / 2, TALL = 8, DEEP = 128, PART = 16384 };
#define SHARED __attribute__((noinline))  // inlined everywhere, they take twice as long to compile
typedef uint32_t Word;
typedef uint16_t Bits;

struct Step {
  int64_t left, right, out, added, more;      // places in `small`; of a large product, left and out are in `rows`
  double alpha, beta, gamma, delta;           // out = alpha left right + beta added + gamma more + delta I
};
struct Table {
  const float* in; float* out; Bits* rows[2]; Word* pairs; Word* small[4]; double* sums; const Step* steps;
  int64_t height, width, wide;                // of the matrices as they are given; whether they are to be transposed
  int64_t m, n, parts;                        // of the padded tall matrix; partial sums of a matrix
  double safety, tiny;
};

static inline const Step& step_of(const Table* t, int64_t unit) { return t->steps[unit >> 32]; }
static inline int64_t place_of(int64_t unit) { return unit & 0xffffffff; }

// Sixteen rows of sixteen words become columns.
static SHARED void transpose(__m512i x[16]) {
  __m512i y[16];
  for (int i = 0; i < 16; i += 2) {
    y[i] = _mm512_unpacklo_epi32(x[i], x[i + 1]);
    y[i + 1] = _mm512_unpackhi_epi32(x[i], x[i + 1]);
  }
  for (int i = 0; i < 16; i += 4) {
    x[i] = _mm512_unpacklo_epi64(y[i], y[i + 2]);
    x[i + 1] = _mm512_unpackhi_epi64(y[i], y[i + 2]);
    x[i + 2] = _mm512_unpacklo_epi64(y[i + 1], y[i + 3]);
    x[i + 3] = _mm512_unpackhi_epi64(y[i + 1], y[i + 3]);
  }
  for (int i = 0; i < 4; ++i) {
    y[i] = _mm512_shuffle_i32x4(x[i], x[i + 4], 0x88);
    y[i + 4] = _mm512_shuffle_i32x4(x[i], x[i + 4], 0xdd);
    y[i + 8] = _mm512_shuffle_i32x4(x[i + 8], x[i + 12], 0x88);
    y[i + 12] = _mm512_shuffle_i32x4(x[i + 8], x[i + 12], 0xdd);
  }
  for (int i = 0; i < 4; ++i) {
    x[i] = _mm512_shuffle_i32x4(y[i], y[i + 8], 0x88);
    x[i + 4] = _mm512_shuffle_i32x4(y[i + 4], y[i + 12], 0x88);
    x[i + 8] = _mm512_shuffle_i32x4(y[i], y[i + 8], 0xdd);
    x[i + 12] = _mm512_shuffle_i32x4(y[i + 4], y[i + 12], 0xdd);
  }
}

// A block of float32.
struct Block {
  alignas(64) float at[SIDE][SIDE];
};

static inline __m512 lower(__m512i words) { return _mm512_castsi512_ps(_mm512_slli_epi32(words, 16)); }
static inline __m512 upper(__m512i words) {
  return _mm512_castsi512_ps(_mm512_and_si512(words, _mm512_set1_epi32((int)0xffff0000)));
}
static inline __m512i rounded(__m512 x) { return _mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh(x)); }

static SHARED void store_pairs(Word* __restrict out, const Block& c) {
  for (int k = 0; k < PAIRS; ++k)
    for (int j = 0; j < SIDE; j += 16) {
      const __m512i low = rounded(_mm512_load_ps(&c.at[2 * k][j]));
      const __m512i high = rounded(_mm512_load_ps(&c.at[2 * k + 1][j]));
      _mm512_storeu_si512(out + k * SIDE + j, _mm512_or_si512(low, _mm512_slli_epi32(high, 16)));
    }
}

static inline __m512i row_words(const float* row) {
  return (__m512i)_mm512_cvtne2ps_pbh(_mm512_load_ps(row + 16), _mm512_load_ps(row));
}

static SHARED void store_rows(Bits* __restrict out, int64_t n, const Block& c) {
  for (int i = 0; i < SIDE; ++i) _mm512_storeu_si512(out + i * n, row_words(c.at[i]));
}

// The mirror image of a block, as pairs.
static SHARED void store_mirrored(Word* __restrict out, const Block& c) {
  for (int half = 0; half < SIDE; half += 16) {
    __m512i x[16];
    for (int i = 0; i < 16; ++i) x[i] = row_words(c.at[half + i]);
    transpose(x);
    for (int k = 0; k < PAIRS; ++k) _mm512_storeu_si512(out + k * SIDE + half, x[k]);
  }
}

// Where a block of the tall matrix lies among float32 values that may be its transpose, and how much of it is there.
struct Window {
  int64_t first, stride, rows, columns;
};
static inline Window window_of(const Table* t, int64_t matrix, int64_t i, int64_t j) {
  const int64_t top = i * SIDE, left = j * SIDE, first = matrix * t->height * t->width;
  const int64_t rows = (t->wide ? t->width : t->height) - top, columns = (t->wide ? t->height : t->width) - left;
  return {first + (t->wide ? left * t->width + top : top * t->width + left), t->width, rows < SIDE ? rows : SIDE,
          columns < SIDE ? columns : SIDE};
}

// A block to or from such values. `whole` blocks go by vectors.
template <bool LOAD> static SHARED void move(const Table* t, const Window& w, Block& c, float* values) {
  const bool whole = w.rows == SIDE && w.columns == SIDE;
  if (!whole) {
    if (LOAD) c = Block{};
    for (int64_t i = 0; i < w.rows; ++i)
      for (int64_t j = 0; j < w.columns; ++j) {
        float& value = values[t->wide ? j * w.stride + i : i * w.stride + j];
        LOAD ? c.at[i][j] = value : value = c.at[i][j];
      }
    return;
  }
  if (!t->wide) {
    for (int i = 0; i < SIDE; ++i)
      for (int j = 0; j < SIDE; j += 16) {
        float* value = values + i * w.stride + j;
        LOAD ? _mm512_store_ps(&c.at[i][j], _mm512_loadu_ps(value)) : _mm512_storeu_ps(value, _mm512_load_ps(&c.at[i][j]));
      }
    return;
  }
  for (int i = 0; i < SIDE; i += 16)
    for (int j = 0; j < SIDE; j += 16) {
      __m512i x[16];
      for (int k = 0; k < 16; ++k)
        x[k] = LOAD ? _mm512_loadu_si512(values + (j + k) * w.stride + i) : _mm512_load_si512(&c.at[i + k][j]);
      transpose(x);
      for (int k = 0; k < 16; ++k)
        LOAD ? _mm512_store_si512(&c.at[i + k][j], x[k]) : _mm512_storeu_si512(values + (j + k) * w.stride + i, x[k]);
    }
}

// c += left right, over `depth` pairs. The left factor is held in pairs, or in rows of `row` words.
template <bool IN_PAIRS> static SHARED void multiply(Block& c, const Word* __restrict left, int64_t row,
                                                     const Word* __restrict right, int64_t depth) {
  for (int i = 0; i < SIDE; i += TALL) {
    __m512 x[TALL][2];
    for (int r = 0; r < TALL; ++r)
      for (int z = 0; z < 2; ++z) x[r][z] = _mm512_load_ps(&c.at[i + r][16 * z]);
    const Word* from = IN_PAIRS ? left + i : left + i * row;
    for (int64_t k = 0; k < depth; ++k) {
      const __m512bh first = (__m512bh)_mm512_loadu_si512(right + k * SIDE);
      const __m512bh second = (__m512bh)_mm512_loadu_si512(right + k * SIDE + 16);
#pragma GCC unroll 8
      for (int r = 0; r < TALL; ++r) {
        const __m512bh pair = (__m512bh)_mm512_set1_epi32((int)(IN_PAIRS ? from[k * SIDE + r] : from[r * row + k]));
        x[r][0] = _mm512_dpbf16_ps(x[r][0], pair, first);
        x[r][1] = _mm512_dpbf16_ps(x[r][1], pair, second);
      }
    }
    for (int r = 0; r < TALL; ++r)
      for (int z = 0; z < 2; ++z) _mm512_store_ps(&c.at[i + r][16 * z], x[r][z]);
  }
}

static SHARED void scale(Block& c, double factor) {
  const __m512 f = _mm512_set1_ps((float)factor);
  for (int i = 0; i < SIDE; ++i)
    for (int j = 0; j < SIDE; j += 16) _mm512_store_ps(&c.at[i][j], _mm512_mul_ps(f, _mm512_load_ps(&c.at[i][j])));
}

static inline void add_to(float* sum, __m512 factor, __m512 value) {
  _mm512_store_ps(sum, _mm512_fmadd_ps(factor, value, _mm512_load_ps(sum)));
}

static SHARED void add_pairs(Block& c, double factor, const Word* __restrict from) {
  const __m512 f = _mm512_set1_ps((float)factor);
  for (int k = 0; k < PAIRS; ++k)
    for (int j = 0; j < SIDE; j += 16) {
      const __m512i words = _mm512_loadu_si512(from + k * SIDE + j);
      add_to(&c.at[2 * k][j], f, lower(words));
      add_to(&c.at[2 * k + 1][j], f, upper(words));
    }
}

static SHARED void add_rows(Block& c, double factor, const Bits* __restrict from, int64_t n) {
  const __m512 f = _mm512_set1_ps((float)factor);
  for (int i = 0; i < SIDE; ++i)
    for (int j = 0; j < SIDE; j += 16) {
      const __m512i words = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i*)(from + i * n + j)));
      add_to(&c.at[i][j], f, lower(words));
    }
}

// Units: parts of the matrices.
extern "C" void square_sums(const Table* t, int64_t first, int64_t last) {
  const int64_t size = t->height * t->width;
  for (int64_t u = first; u < last; ++u) {
    const int64_t start = u % t->parts * PART, count = size - start < PART ? size - start : PART;
    const float* x = t->in + u / t->parts * size + start;
    double sum = 0;
#pragma omp simd reduction(+: sum)
    for (int64_t i = 0; i < count; ++i) sum += (double)x[i] * (double)x[i];
    t->sums[u] = sum;
  }
}

// Units: rows of blocks. Each matrix over its norm.
extern "C" void take_in(const Table* t, int64_t first, int64_t last) {
  const int64_t blocks = t->m / SIDE, panels = t->n / SIDE;
  for (int64_t u = first; u < last; ++u) {
    const int64_t matrix = u / blocks, i = u % blocks;
    double sum = 0;
    for (int64_t k = 0; k < t->parts; ++k) sum += t->sums[matrix * t->parts + k];
    const double norm = t->safety * std::sqrt(sum) + t->tiny;
    const float shrink = norm > 1e38 ? 0x1p-64f : 1.0f, divisor = (float)(norm * shrink);  // which float32 can hold
    for (int64_t j = 0; j < panels; ++j) {
      Block c;
      const Window w = window_of(t, matrix, i, j);
      move<true>(t, w, c, const_cast<float*>(t->in) + w.first);
      for (int r = 0; r < SIDE; ++r)
        for (int q = 0; q < SIDE; ++q) c.at[r][q] = c.at[r][q] * shrink / divisor;
      store_rows(t->rows[0] + (matrix * t->m + i * SIDE) * t->n + j * SIDE, t->n, c);
      store_pairs(t->pairs + (matrix * panels + j) * t->m * PAIRS + i * PAIRS * SIDE, c);
    }
  }
}

// Units: blocks up to the diagonal.
extern "C" void symmetric_product(const Table* t, int64_t first, int64_t last) {
  const Step& s = step_of(t, first);
  const int64_t panels = t->n / SIDE, blocks = panels * (panels + 1) / 2;
  const bool large = s.left < 0;
  const int64_t depth = (large ? t->m : t->n) / 2, panel = depth * SIDE;
  for (int64_t u = place_of(first); u < place_of(last - 1) + 1; ++u) {
    const int64_t matrix = u / blocks, block = u % blocks;
    int64_t i = (int64_t)((std::sqrt(8.0 * (double)block + 1.0) - 1.0) / 2.0);
    const int64_t j = block - i * (i + 1) / 2, square = matrix * t->n * t->n / 2;
    const Word* left = large ? t->pairs + matrix * panels * panel : t->small[s.left] + square;
    const Word* right = large ? left : t->small[s.right] + square;
    Block c = {};
    for (int64_t k = 0; k < depth; k += DEEP)
      multiply<true>(c, left + i * panel + k * SIDE, 0, right + j * panel + k * SIDE, depth - k < DEEP ? depth - k : DEEP);
    const int64_t here = square + j * t->n * PAIRS + i * PAIRS * SIDE, there = square + i * t->n * PAIRS + j * PAIRS * SIDE;
    if (s.alpha != 1) scale(c, s.alpha);
    if (s.beta != 0) add_pairs(c, s.beta, t->small[s.added] + here);
    if (s.gamma != 0) add_pairs(c, s.gamma, t->small[s.more] + here);
    if (i == j && s.delta != 0)
      for (int r = 0; r < SIDE; ++r) c.at[r][r] += (float)s.delta;
    store_pairs(t->small[s.out] + here, c);
    if (i != j) store_mirrored(t->small[s.out] + there, c);
  }
}

// Units: blocks. The last product goes to where the result belongs.
extern "C" void large_product(const Table* t, int64_t first, int64_t last) {
  const Step& s = step_of(t, first);
  const int64_t panels = t->n / SIDE, blocks = t->m / SIDE * panels, depth = t->n / 2, panel = depth * SIDE;
  for (int64_t u = place_of(first); u < place_of(last - 1) + 1; ++u) {
    const int64_t matrix = u / blocks, i = u % blocks / panels, j = u % blocks % panels;
    const Bits* x = t->rows[s.left] + (matrix * t->m + i * SIDE) * t->n;
    const Word* right = t->small[s.right] + matrix * t->n * t->n / 2 + j * panel;
    Block c = {};
    for (int64_t k = 0; k < depth; k += DEEP)
      multiply<false>(c, (const Word*)x + k, depth, right + k * SIDE, depth - k < DEEP ? depth - k : DEEP);
    add_rows(c, s.beta, x + j * SIDE, t->n);
    if (s.out < 0) {
      const Window w = window_of(t, matrix, i, j);
      move<false>(t, w, c, t->out + w.first);
      continue;
    }
    store_rows(t->rows[s.out] + (matrix * t->m + i * SIDE) * t->n + j * SIDE, t->n, c);
    store_pairs(t->pairs + (matrix * panels + j) * t->m * PAIRS + i * PAIRS * SIDE, c);
  }
}
#endif
