// The threads of the native engine. Where torch's OpenMP runtime can be borrowed (`Team` is its GOMP_parallel), its
// threads do the work: they spin for a while after each of torch's own operations, and other threads would have to
// share the cores with them. Elsewhere, and in a forked child, where OpenMP hangs, a pool of our own does, whose
// threads sleep between steps. The work is a list of phases; the units of a phase (chunks or tensors) are handed out in
// contiguous runs by an atomic counter, and the next phase begins when all units of one are done, however many threads
// there turn out to be. What a unit computes never depends on which thread took it.
#include <pthread.h>
#include <sched.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#ifdef __SSE__
#include <xmmintrin.h>
#endif

typedef void (*Function)(const void* table, int64_t first, int64_t last);
struct Phase {
  Function function;
  int64_t first, last, run;  // units, and how many of them are handed out at a time
};
struct Counters {
  alignas(64) int64_t next;
  alignas(64) int64_t done;
};
typedef void (*Team)(void (*member)(void*), void* data, unsigned threads, unsigned flags);

enum { MOST = 256 };

static pthread_mutex_t caller = PTHREAD_MUTEX_INITIALIZER;  // one step at a time
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t begin_condition = PTHREAD_COND_INITIALIZER;
static pthread_cond_t end_condition = PTHREAD_COND_INITIALIZER;
static int started = 0, wanted = 0, busy = 0;
static uint64_t round_number = 0;
static int watching_forks = 0, forked = 0;

static const Phase* phases;
static int64_t phase_count;
static Counters* counters;
static int64_t capacity = 0;
static const void* table;

// The caller may have asked its own thread to flush denormals (torch.set_flush_denormal); results must not depend on
// which thread computes them, so every thread computes as IEEE 754 has it.
#ifdef __SSE__
static unsigned to_ieee(void) {
  const unsigned before = _mm_getcsr();
  _mm_setcsr(0x1f80);
  return before;
}
static void back_from_ieee(unsigned before) { _mm_setcsr(before); }
#else
static unsigned to_ieee(void) { return 0; }
static void back_from_ieee(unsigned) {}
#endif

static inline void pause_a_little(int spins) {
#ifdef __SSE__
  if (spins < 2000) {
    _mm_pause();
    return;
  }
#endif
  if (spins >= 100) sched_yield();
}

static void work(void) {
  const unsigned before = to_ieee();
  for (int64_t k = 0; k < phase_count; ++k) {
    const Phase& phase = phases[k];
    const int64_t units = phase.last - phase.first;
    for (;;) {
      const int64_t first = __atomic_fetch_add(&counters[k].next, phase.run, __ATOMIC_RELAXED);
      if (first >= units) break;
      const int64_t last = first + phase.run < units ? first + phase.run : units;
      phase.function(table, phase.first + first, phase.first + last);
      __atomic_fetch_add(&counters[k].done, last - first, __ATOMIC_ACQ_REL);
    }
    for (int spins = 0; __atomic_load_n(&counters[k].done, __ATOMIC_ACQUIRE) < units; ++spins) pause_a_little(spins);
  }
  back_from_ieee(before);
}

static void* worker(void* argument) {
  const int me = (int)(intptr_t)argument;
  uint64_t seen = 0;
  pthread_mutex_lock(&mutex);
  for (;;) {
    while (round_number == seen || me >= wanted) {
      if (round_number != seen) seen = round_number;
      pthread_cond_wait(&begin_condition, &mutex);
    }
    seen = round_number;
    pthread_mutex_unlock(&mutex);
    work();
    pthread_mutex_lock(&mutex);
    if (--busy == 0) pthread_cond_signal(&end_condition);
  }
  return 0;
}

static void team_member(void*) { work(); }

static void after_fork(void) {
  // A forked child has none of its parent's threads, and locks in whatever state they were.
  pthread_mutex_init(&caller, 0);
  pthread_mutex_init(&mutex, 0);
  pthread_cond_init(&begin_condition, 0);
  pthread_cond_init(&end_condition, 0);
  started = wanted = busy = 0;
  round_number = 0;
  forked = 1;
}

// Runs phases in order with up to `threads` threads, the calling one included. Returns how many it used.
extern "C" int ravine_run(const Phase* phases_, int64_t count, const void* table_, int threads, Team team) {
  if (threads > MOST) threads = MOST;
  int alone = threads <= 1;
  if (!alone) {
    alone = 1;
    for (int64_t k = 0; k < count; ++k)
      if (phases_[k].last - phases_[k].first > phases_[k].run) alone = 0;
  }
  if (alone) {
    const unsigned before = to_ieee();
    for (int64_t k = 0; k < count; ++k)
      if (phases_[k].last > phases_[k].first) phases_[k].function(table_, phases_[k].first, phases_[k].last);
    back_from_ieee(before);
    return 1;
  }
  pthread_mutex_lock(&caller);
  if (!watching_forks) pthread_atfork(0, 0, after_fork);
  watching_forks = 1;
  if (count > capacity) {
    free(counters);
    counters = (Counters*)aligned_alloc(64, (size_t)count * sizeof(Counters));
    capacity = counters ? count : 0;
    if (!counters) abort();
  }
  memset((void*)counters, 0, (size_t)count * sizeof(Counters));
  phases = phases_, phase_count = count, table = table_;
  if (team && !forked) {
    team(team_member, 0, (unsigned)threads, 0);
    pthread_mutex_unlock(&caller);
    return threads;
  }
  pthread_mutex_lock(&mutex);
  while (started < threads - 1) {
    pthread_t thread;
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    const int failed = pthread_create(&thread, &attributes, worker, (void*)(intptr_t)started);
    pthread_attr_destroy(&attributes);
    if (failed) break;
    ++started;
  }
  wanted = started < threads - 1 ? started : threads - 1;
  busy = wanted;
  const int used = wanted + 1;
  ++round_number;
  pthread_cond_broadcast(&begin_condition);
  pthread_mutex_unlock(&mutex);
  work();
  pthread_mutex_lock(&mutex);
  while (busy > 0) pthread_cond_wait(&end_condition, &mutex);
  wanted = 0;
  pthread_mutex_unlock(&mutex);
  pthread_mutex_unlock(&caller);
  return used;
}
