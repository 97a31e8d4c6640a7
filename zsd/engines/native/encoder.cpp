// A BERT encoder with its classifier, in bf16 with fp32 sums and residuals: zsd/engines/native/engine.py calls zsd_logits.
//
// Tokens of several sequences go through a layer together, those that are padding not at all. What the classifier does
// not read, all but the first token of the last layer, is not computed.
//
// Legend: T tokens of a block, H hidden size, A size of all heads, I inner size of the feed-forward block, all padded to
// 32, with zeros.

#include <cmath>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <new>
#include <vector>

#include "attention.h"

namespace {

constexpr long BLOCK_TOKENS = 512;  // tokens at a time: what a layer needs of them stays in the second-level cache
constexpr long CHUNK = ZSD_CHUNK;   // columns of the inner layer that are made, and used up, at a time: weights.py

struct Layer {
    const bf16* qkv;  // panels of queries (scaled by log2(e) / sqrt(head size)), of keys and of values
    const float* qkv_bias;
    const bf16* out;
    const float *out_bias, *norm1_weight, *norm1_bias;
    const bf16* up;
    const float* up_bias;
    const bf16* down;  // panels of the first CHUNK rows, of the next, ...
    const float *down_bias, *norm2_weight, *norm2_bias;
};

struct Model {
    int64_t layers, hidden, H, heads, D, I, first_place, pad, has_types, classes, head_activation;
    double epsilon;
    const float *words, *places, *types, *norm_weight, *norm_bias;
    const float *head_weight, *head_bias, *class_weight, *class_bias;  // [H][H], [H], [classes][H], [classes]
    const Layer* layer;
    long A() const { return heads * D; }
};

struct Sequence {
    long row, start, length;  // row of the batch, first token in the block
};

// Memory of a thread, kept from call to call.
struct Space {
    char* data = nullptr;
    size_t size = 0, used = 0;
    ~Space() { std::free(data); }
    template <class Lay> void lay(Lay lay_out) {
        used = 0;
        char* before = data;
        data = nullptr;  // once to learn how much, once to share it out
        lay_out();
        data = before;
        if (used > size) {
            std::free(data);
            size = padded(used, 4096);
            data = static_cast<char*>(std::aligned_alloc(4096, size));
            if (!data) {
                size = 0;
                throw std::bad_alloc();
            }
            std::memset(data, 0, size);
        }
        used = 0;
        lay_out();
    }
    template <class T> T* take(size_t count) {
        T* found = data ? reinterpret_cast<T*>(data + used) : nullptr;
        used += padded(count * sizeof(T), 4096) + 256;  // not all at the same place of a page
        return found;
    }
};

// Where the 32 numbers of a row that begin at column `step` * 32 are in tiles of A.
inline bf16* in_tiles(bf16* tiles, long row, long step, long steps) {
    return tiles + ((row / 16) * steps + step) * TILE + (row % 16) * 32;
}

// x [rows][H] is normalized (Ba et al. 2016), written as tiles of A, and back with the bias that the next product adds.
void normalize(float* x, long rows, const Model& model, const float* weight, const float* bias, const float* next_bias,
               bf16* tiles) {
    const long H = model.H;
    const float share = 1.0f / model.hidden;
    for (long t = 0; t < rows; t++) {
        float* row = x + t * H;
        __m512 sum = _mm512_setzero_ps(), squares = _mm512_setzero_ps();
        for (long i = 0; i < H; i += 16) sum = _mm512_add_ps(sum, _mm512_loadu_ps(row + i));
        const __m512 mean = _mm512_set1_ps(_mm512_reduce_add_ps(sum) * share);
        for (long i = 0; i < H; i += 16) {
            const __m512 off = _mm512_maskz_sub_ps(first_of_16(model.hidden - i), _mm512_loadu_ps(row + i), mean);
            squares = _mm512_fmadd_ps(off, off, squares);
        }
        const float variance = _mm512_reduce_add_ps(squares) * share;
        const __m512 by = _mm512_set1_ps(1.0f / std::sqrt(variance + float(model.epsilon)));
        for (long i = 0; i < H; i += 32) {
            __m512 y[2];
            for (int half = 0; half < 2; half++) {
                const long at = i + half * 16;  // weight and bias are zero beyond the hidden size
                const __m512 unit = _mm512_mul_ps(_mm512_sub_ps(_mm512_loadu_ps(row + at), mean), by);
                y[half] = _mm512_fmadd_ps(unit, _mm512_loadu_ps(weight + at), _mm512_loadu_ps(bias + at));
                const __m512 next = next_bias ? _mm512_loadu_ps(next_bias + at) : _mm512_setzero_ps();
                _mm512_storeu_ps(row + at, _mm512_add_ps(y[half], next));
            }
            _mm512_store_si512(in_tiles(tiles, t, i / 32, H / 32), to_bf16(y[0], y[1]));
        }
    }
}

void embed(const Model& model, const int64_t* ids, const int64_t* types, long length,
           const std::vector<Sequence>& sequences, float* x) {
    for (const Sequence& sequence : sequences)
        for (long i = 0, seen = 0; i < sequence.length; i++) {
            const long at = sequence.row * length + i;
            const float* word = model.words + ids[at] * model.H;
            // RoBERTa gives a padding token that stands in a text the place of padding, and counts the others.
            const long number = ids[at] == model.pad ? model.pad : model.first_place + seen++;
            const float* place = model.places + number * model.H;
            const float* type = model.has_types ? model.types + (types ? types[at] : 0) * model.H : nullptr;
            float* row = x + (sequence.start + i) * model.H;
            for (long h = 0; h < model.H; h += 16) {
                __m512 sum = _mm512_add_ps(_mm512_loadu_ps(word + h), _mm512_loadu_ps(place + h));
                if (type) sum = _mm512_add_ps(sum, _mm512_loadu_ps(type + h));
                _mm512_storeu_ps(row + h, sum);
            }
        }
}

// to [row_tiles * 16][panels * 32] = A B + bias, of the panels from `first` on
void project(const bf16* a, long row_tiles, const Model& model, const Layer& layer, long first, long panels, bf16* to) {
    const int steps = model.H / 32;
    const float* bias = layer.qkv_bias + first * 32;
    product(a, row_tiles, steps, layer.qkv + first * steps * 2 * TILE, panels, [=](long row, long p, const float* c) {
        const __m512 low = _mm512_add_ps(_mm512_load_ps(c), _mm512_loadu_ps(bias + p * 32));
        const __m512 high = _mm512_add_ps(_mm512_load_ps(c + 16), _mm512_loadu_ps(bias + p * 32 + 16));
        _mm512_storeu_si512(to + (row * panels + p) * 32, to_bf16(low, high));
    });
}

// x [row_tiles * 16][H] += A B
void add_product(const bf16* a, long row_tiles, int steps, const bf16* b, long H, float* x) {
    product(a, row_tiles, steps, b, H / 32, [=](long row, long p, const float* c) {
        float* to = x + row * H + p * 32;
        _mm512_storeu_ps(to, _mm512_add_ps(_mm512_loadu_ps(to), _mm512_load_ps(c)));
        _mm512_storeu_ps(to + 16, _mm512_add_ps(_mm512_loadu_ps(to + 16), _mm512_load_ps(c + 16)));
    });
}

// A layer from its attention's result on; x holds the layer's input and the bias of the attention's output.
void rest_of_layer(const Model& model, const Layer& layer, const bf16* context, long rows, float* x, bf16* tiles,
                   bf16* inner, const float* next_bias) {
    const long H = model.H, row_tiles = padded(rows, 32) / 16;
    add_product(context, row_tiles, model.A() / 32, layer.out, H, x);
    normalize(x, rows, model, layer.norm1_weight, layer.norm1_bias, layer.down_bias, tiles);
    for (long from = 0; from < model.I; from += CHUNK) {
        const long steps = std::min(CHUNK, model.I - from) / 32;
        const float* bias = layer.up_bias + from;
        product(tiles, row_tiles, H / 32, layer.up + from * H, steps, [=](long row, long p, const float* c) {
            const __m512 low = gelu(_mm512_add_ps(_mm512_load_ps(c), _mm512_loadu_ps(bias + p * 32)));
            const __m512 high = gelu(_mm512_add_ps(_mm512_load_ps(c + 16), _mm512_loadu_ps(bias + p * 32 + 16)));
            _mm512_store_si512(in_tiles(inner, row, p, steps), to_bf16(low, high));
        });
        add_product(inner, row_tiles, steps, layer.down + from * H, H, x);
    }
    normalize(x, rows, model, layer.norm2_weight, layer.norm2_bias, next_bias, tiles);
}

float dot(const float* a, const float* b, long count) {
    __m512 sum = _mm512_setzero_ps();
    for (long i = 0; i < count; i += 16) sum = _mm512_fmadd_ps(_mm512_loadu_ps(a + i), _mm512_loadu_ps(b + i), sum);
    return _mm512_reduce_add_ps(sum);
}

// Logits of x [rows][H], in fp32 as the rest of it is small: a dense layer (tanh: 0, ReLU: 1), then the classes.
void classify(const Model& model, long rows, const float* x, float* logits) {
    const long H = model.H;
    std::vector<float> dense(rows * H);
    for (long i = 0; i < H; i++)  // each row of the weight is read once
        for (long r = 0; r < rows; r++) {
            const float sum = dot(model.head_weight + i * H, x + r * H, H) + model.head_bias[i];
            dense[r * H + i] = model.head_activation ? std::max(sum, 0.0f) : std::tanh(sum);
        }
    for (long r = 0; r < rows; r++)
        for (long c = 0; c < model.classes; c++)
            logits[r * model.classes + c] = dot(model.class_weight + c * H, dense.data() + r * H, H) + model.class_bias[c];
}

struct Work {
    float *x, *first_x;
    bf16 *tiles, *qkv, *context, *inner, *first_tiles, *first_queries, *first_context;
    AttentionSpace attention;
    Work(Space& space, const Model& model, long rows, long length) {
        const long longest = padded(length, 32), T = BLOCK_TOKENS + longest + 32, first = padded(rows, 32);
        const long most = std::max(T, first), H = model.H, A = model.A();
        space.lay([&] {
            x = space.take<float>(T * H);
            first_x = space.take<float>(first * H);
            tiles = space.take<bf16>(most * H);
            qkv = space.take<bf16>(T * 3 * A);
            context = space.take<bf16>(T * A);
            inner = space.take<bf16>(most * CHUNK);
            first_tiles = space.take<bf16>(first * H);
            first_queries = space.take<bf16>((first + 16) * A);
            first_context = space.take<bf16>(first * A);
            attention.keys = space.take<bf16>(longest * model.D);
            attention.values = space.take<bf16>(longest * model.D);
            attention.weights = space.take<bf16>(longest * 16);
            attention.scores = space.take<float>(longest * 16);
            attention.result = space.take<float>(16 * 32);
        });
    }
};

void attend_all(const Model& model, const Work& work, const std::vector<Sequence>& sequences) {
    const long A = model.A(), stride = 3 * A;
    for (const Sequence& s : sequences)
        for (long h = 0; h < model.heads; h++) {
            const bf16* at = work.qkv + s.start * stride + h * model.D;
            attend(at, stride, s.length, at + A, at + 2 * A, stride, s.length, model.D / 32, work.attention,
                   [&](long query, long step, __m512i numbers) {
                       const long column = h * (model.D / 32) + step;
                       _mm512_store_si512(in_tiles(work.context, s.start + query, column, A / 32), numbers);
                   });
        }
}

// Of the last layer: the attention of the first token of each sequence, and its input, from row `done` on.
void attend_first(const Model& model, const Work& work, const std::vector<Sequence>& sequences, long row_tiles, long done) {
    const long H = model.H, A = model.A(), stride = 2 * A, count = sequences.size();
    const Layer& layer = model.layer[model.layers - 1];
    project(work.tiles, row_tiles, model, layer, A / 32, 2 * A / 32, work.qkv);
    for (long i = 0; i < count; i++) {
        const long from = sequences[i].start;
        for (long c = 0; c < H / 32; c++)
            std::memcpy(in_tiles(work.first_tiles, i, c, H / 32), in_tiles(work.tiles, from, c, H / 32), 64);
        std::memcpy(work.first_x + (done + i) * H, work.x + from * H, H * sizeof(float));
    }
    project(work.first_tiles, padded(count, 32) / 16, model, layer, 0, A / 32, work.first_queries);
    for (long i = 0; i < count; i++)
        for (long h = 0; h < model.heads; h++) {
            const bf16* at = work.qkv + sequences[i].start * stride + h * model.D;
            attend(work.first_queries + i * A + h * model.D, A, 1, at, at + A, stride, sequences[i].length, model.D / 32,
                   work.attention, [&](long, long step, __m512i numbers) {
                       const long column = h * (model.D / 32) + step;
                       _mm512_store_si512(in_tiles(work.first_context, done + i, column, A / 32), numbers);
                   });
        }
}

// The next sequences of a batch, as many as fit a block; returns their tokens.
long next_block(long& row, long rows, long length, const int64_t* mask, std::vector<Sequence>& sequences) {
    long tokens = 0;
    for (sequences.clear(); row < rows; row++) {
        long count = 0;
        while (count < length && mask[row * length + count]) count++;
        if (!sequences.empty() && tokens + count > BLOCK_TOKENS) break;
        sequences.push_back({row, tokens, count});
        tokens += count;
    }
    return tokens;
}

thread_local Space space;

}  // namespace

extern "C" {

// How the structs lie in memory, for the test that holds weights.py to it.
void zsd_layout(int64_t* found) {
    found[0] = sizeof(Model), found[1] = offsetof(Model, epsilon), found[2] = offsetof(Model, types);
    found[3] = offsetof(Model, class_bias), found[4] = offsetof(Model, layer), found[5] = offsetof(Model, first_place);
    found[6] = sizeof(Layer), found[7] = offsetof(Layer, up), found[8] = offsetof(Layer, norm2_bias);
}

// 0, or 1 where the system does not let this process use tiles.
int zsd_prepare() { return allow_tiles(); }

// logits [rows][classes] of ids, mask (ones, then zeros) and types [rows][length]; types may be null: all of type 0.
// Returns 0, or 1 where there is not enough memory.
int zsd_logits(const Model* given, int64_t rows, int64_t length, const int64_t* ids, const int64_t* mask,
               const int64_t* types, float* logits) try {
    const Model& model = *given;
    const Work work(space, model, rows, length);
    const Tiles configured;
    std::vector<Sequence> sequences;
    for (long row = 0, done = 0; row < rows; done = row) {
        const long tokens = next_block(row, rows, length, mask, sequences), row_tiles = padded(tokens, 32) / 16;
        embed(model, ids, types, length, sequences, work.x);
        normalize(work.x, tokens, model, model.norm_weight, model.norm_bias, model.layer[0].out_bias, work.tiles);
        for (long l = 0; l + 1 < model.layers; l++) {
            const Layer& layer = model.layer[l];
            project(work.tiles, row_tiles, model, layer, 0, 3 * model.A() / 32, work.qkv);
            attend_all(model, work, sequences);
            rest_of_layer(model, layer, work.context, tokens, work.x, work.tiles, work.inner, model.layer[l + 1].out_bias);
        }
        attend_first(model, work, sequences, row_tiles, done);
    }
    rest_of_layer(model, model.layer[model.layers - 1], work.first_context, rows, work.first_x, work.tiles, work.inner,
                  nullptr);
    classify(model, rows, work.first_x, logits);
    return 0;
} catch (const std::bad_alloc&) {
    return 1;
}
}
