/* char_rnn - learns to write like a text, one character after the other.
 *
 *     char_rnn                                          learns from this project's own sources
 *     char_rnn --epochs 20 --save sea.safetensors moby-dick.txt
 *     char_rnn --load sea.safetensors --epochs 0 --prompt "Call me " --sample 2000
 *
 *                  c    a    t              inputs     [T,B]    B places of the text side by side
 *                  |    |    |
 *     embedding    x    x    x                         [T,B,E]
 *                  |    |    |
 *     layer 0   -> h -> h -> h ->  state    outputs    [T,B,H]
 *                  |    |    |
 *     layer 1   -> h -> h -> h ->  state               [T,B,H]
 *                  |    |    |
 *     linear       y    y    y              logits     [T,B,V]
 *                  a    t    s              targets: the character that comes next
 *
 * It trains by stateful truncated BPTT: T = k1 steps are recorded and walked back, the parameters are
 * updated, and the next k1 steps begin with the states in which these ended. The loss is the mean
 * of -log p(next character) in nats; divided by log 2 it is the bits that a compressor which used the
 * model would need for a character.
 *
 * The text is split in order: training, validation, test. With --save the model is written whenever an
 * epoch ends with the best validation so far, and on Ctrl-C, under the names of a PyTorch module with
 * emb = Embedding(V, E), rnn = RNN, LSTM or GRU(E, H, layers), out = Linear(H, V). Vocabulary and sizes
 * are in the file's metadata, so that --load needs no other option. Adam's moments are not saved.
 *
 * Results go to stdout, which is the same for the same seed but for times; progress and complaints go
 * to stderr. Ends with 0, with 1 after a complaint, with 130 after Ctrl-C. */
#include "char_rnn_options.h"

#include <limits.h>
#include <math.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- the model -------------------------------------------------------------------------- */

typedef struct model {
    tl_params *params;
    tl_embedding_layer emb;
    tl_rnn rnn;
    tl_linear_layer out;
    tl_vocabulary vocabulary;
} model;

/* x: [T,B] -> logits: [T,B,V]; state: see tl_unroll */
static tl_var forward(tl_tape *t, const model *m, tl_var x, tl_var *state)
{
    tl_var h = tl_unroll(t, &m->rnn, tl_embedding(t, x, &m->emb), state);
    return tl_linear(t, h, &m->out);
}

static bool build_model(model *m, const options *o)
{
    tl_rnn_config config = {.input = o->embed, .hidden = o->hidden, .layers = (int)o->layers};
    for (int i = 0; i < CELLS; i++)
        if (strcmp(o->cell, cells[i].name) == 0)
            config.cell = cells[i].type;
    m->params = tl_params_new(TL_F32, (uint64_t)o->seed);
    if (!m->params)
        return complain("out of memory");
    tl_embedding_init(&m->emb, m->params, "emb.", m->vocabulary.size, o->embed);
    tl_rnn_init(&m->rnn, m->params, &config);
    tl_linear_init(&m->out, m->params, "out.", o->hidden, m->vocabulary.size, true);
    if (tl_params_status(m->params) != TL_OK)
        return complain("%s", m->params->error.message);
    return true;
}

static void free_model(model *m)
{
    tl_rnn_free(&m->rnn);
    tl_params_free(m->params);
}

/* The options that a model file remembers. */
static const int remembered[] = {OPTION_cell, OPTION_layers, OPTION_hidden, OPTION_embed};

enum { REMEMBERED = sizeof remembered / sizeof remembered[0] };

static bool is_finite(const tl_params *params)
{
    for (int k = 0; k < params->count; k++)
        for (int64_t i = 0; i < params->entry[k]->value->layout.count; i++)
            if (!isfinite(tl_tensor_get(params->entry[k]->value, i)))
                return false;
    return true;
}

static bool save_model(const model *m, const options *o)
{
    if (!is_finite(m->params))
        return complain("%s is left as it was: the model's numbers are not finite", o->save);
    char vocabulary[TL_VOCABULARY_TEXT], value[REMEMBERED][TL_NUMBER_TEXT];
    const char *metadata[2 * (REMEMBERED + 2)] = {"format", "pt", "vocabulary",
                                                  tl_vocabulary_text(&m->vocabulary, vocabulary)};
    for (int i = 0; i < REMEMBERED; i++) {
        show_option(o, remembered[i], value[i]);
        metadata[2 * i + 4] = rows[remembered[i]].name;
        metadata[2 * i + 5] = value[i];
    }
    tl_error error = {TL_OK, ""};
    if (tl_params_save(m->params, o->save, REMEMBERED + 2, metadata, &error) != TL_OK)
        return complain("%s", error.message);
    return true;
}

/* Sets the options that the file remembers, unless they were given, and says otherwise. */
static bool recall_options(const tl_tensor_file *file, options *o)
{
    for (int i = 0; i < REMEMBERED; i++) {
        const char *name = rows[remembered[i]].name, *stored = tl_tensor_file_metadata(file, name);
        char here[TL_NUMBER_TEXT];
        show_option(o, remembered[i], here);
        if (!stored)
            return complain("%s is no model of char_rnn: its metadata says nothing of '%s'", o->load,
                            name);
        if (o->given[remembered[i]] && strcmp(stored, here) != 0)
            return complain("%s is a model with --%s %s, not %s", o->load, name, stored, here);
        if (!set_option(o, remembered[i], stored))
            return complain("%s: its metadata is damaged", o->load);
    }
    int64_t numbers = 0; /* that the file holds: nobody shall allocate much more than that */
    for (int i = 0; i < file->count; i++)
        numbers += file->entries[i].tensor->layout.count;
    if (numbers < o->layers * o->hidden * o->hidden + o->hidden * o->embed)
        return complain("%s: its tensors are smaller than its metadata says", o->load);
    return true;
}

static bool recall_vocabulary(const tl_tensor_file *file, const options *o, tl_vocabulary *vocabulary)
{
    const char *stored = tl_tensor_file_metadata(file, "vocabulary");
    tl_error error = {TL_OK, ""};
    if (!stored)
        return complain("%s is no model of char_rnn: its metadata says nothing of 'vocabulary'",
                        o->load);
    if (tl_vocabulary_parse(vocabulary, stored, &error) != TL_OK)
        return complain("%s: its metadata is damaged: %s", o->load, error.message);
    return true;
}

/* Sizes and vocabulary of the file --load. */
static bool recall(options *o, tl_vocabulary *vocabulary)
{
    tl_tensor_file file;
    tl_error error = {TL_OK, ""};
    if (tl_safetensors_load(o->load, &file, &error) != TL_OK)
        return complain("%s", error.message);
    bool fine = recall_options(&file, o) && recall_vocabulary(&file, o, vocabulary);
    tl_tensor_file_free(&file);
    return fine;
}

static bool load_parameters(model *m, const char *path)
{
    tl_error error = {TL_OK, ""};
    if (tl_params_load(m->params, path, &error) != TL_OK)
        return complain("%s", error.message);
    return is_finite(m->params) || complain("%s: holds numbers that are not finite", path);
}

/* ---- the text --------------------------------------------------------------------------- */

typedef struct corpus {
    char path[PATH_MAX];
    tl_text text; /* as codes */
    tl_streams train, valid, test;
} corpus;

/* Tapeloop's own sources, which the build puts beside the program. */
static void find_default_corpus(char path[PATH_MAX], const char *program)
{
    ssize_t length = readlink("/proc/self/exe", path, PATH_MAX - 1);
    if (length > 0)
        path[length] = '\0';
    else
        snprintf(path, PATH_MAX, "%s", program);
    char *slash = strrchr(path, '/');
    char *name = slash ? slash + 1 : path;
    snprintf(name, (size_t)(path + PATH_MAX - name), "corpus.txt");
}

static bool split(corpus *c, const options *o)
{
    enum { EVALUATED_STREAMS = 8 };
    int64_t n = c->text.count;
    int64_t valid_at = (int64_t)((1 - 2 * o->valid) * (double)n);
    int64_t test_at = (int64_t)((1 - o->valid) * (double)n);
    c->train = tl_streams_of(valid_at, c->text.byte, o->batch);
    c->valid = tl_streams_of(test_at - valid_at, c->text.byte + valid_at, EVALUATED_STREAMS);
    c->test = tl_streams_of(n - test_at, c->text.byte + test_at, EVALUATED_STREAMS);
    if (c->train.steps < o->k1)
        return complain("%s is too short: of its %lld bytes %lld are for training, but one batch takes "
                        "--batch %lld times --k1 %lld, and one",
                        c->path, (long long)n, (long long)valid_at, (long long)o->batch,
                        (long long)o->k1);
    if (c->valid.steps < 1 || c->test.steps < 1)
        return complain(
            "%s is too short: of its %lld bytes %lld are for validation, and %d is the least", c->path,
            (long long)n, (long long)(test_at - valid_at), EVALUATED_STREAMS + 1);
    return true;
}

/* A model that was loaded keeps its vocabulary, a new one gets that of the text. */
static bool read_corpus(corpus *c, const options *o, const char *program, tl_vocabulary *vocabulary)
{
    tl_error error = {TL_OK, ""};
    if (o->path)
        snprintf(c->path, sizeof c->path, "%s", o->path);
    else
        find_default_corpus(c->path, program);
    if (tl_text_read(&c->text, c->path, o->limit, &error) != TL_OK)
        return complain("%s", error.message);
    if (!o->load)
        tl_vocabulary_of(vocabulary, c->text.count, c->text.byte);
    if (tl_vocabulary_encode(vocabulary, c->text.count, c->text.byte, &error) != TL_OK)
        return complain("%s does not fit the model %s: %s", c->path, o->load, error.message);
    return split(c, o);
}

/* ---- training --------------------------------------------------------------------------- */

static volatile sig_atomic_t interrupted; /* the signal that asked for an end */

static void interrupt(int signal)
{
    interrupted = signal;
}

typedef struct run {
    options o;
    model model;
    corpus corpus;
    tl_tape *tape;
    tl_optimizer *optimizer;
    tl_progress progress;
    int64_t epoch, trained; /* from 1; characters in all epochs */
    double spent;           /* seconds of training */
    double sum, recent;     /* losses: of the epoch so far, and the running mean of the last ones */
    int64_t steps;          /* of the epoch so far */
    bool diverged;
    double best; /* validation loss */
    int64_t best_epoch;
    bool unsaved;   /* the best model could not be saved */
    tl_text prompt; /* as codes */
} run;

static double bits(double nats)
{
    return nats / log(2);
}

static void forget_states(tl_var state[MOST_STATES])
{
    for (int k = 0; k < MOST_STATES; k++)
        state[k] = TL_NONE;
}

static tl_var record(tl_tape *t, void *self, int64_t from, int64_t to, tl_var *state)
{
    run *r = self;
    tl_var logits = forward(t, &r->model, tl_streams_inputs(t, &r->corpus.train, from, to), state);
    return tl_cross_entropy(t, logits, tl_streams_targets(t, &r->corpus.train, from, to),
                            TL_REDUCE_MEAN);
}

/* A step along the gradients, unless they or the loss are not numbers any more. */
static bool update(void *self, const tl_bptt_pass *pass)
{
    run *r = self;
    int64_t steps = pass->to - pass->from;
    double norm = tl_clip_gradient_norm(r->model.params, r->o.clip > 0 ? r->o.clip : HUGE_VAL);
    r->diverged = !isfinite(pass->loss) || !isfinite(norm);
    if (r->diverged)
        return false;
    tl_optimizer_step(r->optimizer);
    tl_zero_gradients(r->model.params);
    r->recent = r->trained ? 0.95 * r->recent + 0.05 * pass->loss : pass->loss;
    r->sum += pass->loss * (double)steps;
    r->steps += steps;
    r->trained += steps * r->o.batch;
    tl_progress_show(&r->progress, r->trained, "epoch %lld/%lld  %.4f nats (%.3f bits)",
                     (long long)r->epoch, (long long)r->o.epochs, r->recent, bits(r->recent));
    return !interrupted;
}

static bool train_epoch(run *r)
{
    tl_var state[MOST_STATES];
    forget_states(state);
    tl_bptt bptt = {.k1 = r->o.k1, .model = r, .record = record, .update = update};
    r->sum = 0;
    r->steps = 0;
    double began = tl_seconds();
    tl_status status =
        tl_bptt_run(r->tape, &bptt, r->corpus.train.steps, tl_rnn_states(&r->model.rnn), state);
    r->spent += tl_seconds() - began;
    tl_progress_clear(&r->progress);
    if (status != TL_OK)
        return complain("%s", tl_tape_message(r->tape));
    if (r->diverged)
        return complain("training diverged in epoch %lld: the loss or its gradient is not finite; "
                        "a smaller --lr or --clip may help",
                        (long long)r->epoch);
    tl_tape_reset(r->tape);
    return true;
}

/* Mean loss in nats over all of the streams. */
static bool evaluate(run *r, const tl_streams *s, double *mean)
{
    enum { STRETCH = 256 };
    tl_tape *t = r->tape;
    int states = tl_rnn_states(&r->model.rnn);
    tl_var state[MOST_STATES];
    forget_states(state);
    double sum = 0;
    for (int64_t from = 0; from < s->steps && tl_tape_status(t) == TL_OK; from += STRETCH) {
        int64_t to = from + STRETCH < s->steps ? from + STRETCH : s->steps;
        tl_no_record_begin(t);
        tl_var logits = forward(t, &r->model, tl_streams_inputs(t, s, from, to), state);
        tl_var loss = tl_cross_entropy(t, logits, tl_streams_targets(t, s, from, to), TL_REDUCE_SUM);
        sum += tl_item(t, loss);
        tl_no_record_end(t, states, state);
        tl_tape_restart(t, states, state);
    }
    *mean = sum / (double)(s->steps * s->batch);
    if (tl_tape_status(t) != TL_OK)
        return complain("%s", tl_tape_message(t));
    tl_tape_reset(t);
    return isfinite(*mean) || complain("the validation loss is not finite: the model has diverged");
}

/* The best model so far goes to the file. A disk that is full now may not be so later: go on. */
static void keep_if_best(run *r, double valid)
{
    if (!(valid < r->best))
        return;
    r->best = valid;
    r->best_epoch = r->epoch;
    if (r->o.save)
        r->unsaved = !save_model(&r->model, &r->o);
}

static bool run_epoch(run *r)
{
    double valid, before = r->spent;
    if (!train_epoch(r) || !evaluate(r, &r->corpus.valid, &valid))
        return false;
    char speed[TL_NUMBER_TEXT];
    double train = r->sum / (double)r->steps, seconds = fmax(r->spent - before, 1e-9);
    printf("epoch %lld/%lld  train %.4f nats (%.3f bits)  valid %.4f nats (%.3f bits)  %s chars/s  "
           "%.1f s%s\n",
           (long long)r->epoch, (long long)r->o.epochs, train, bits(train), valid, bits(valid),
           tl_count_text((int64_t)((double)(r->steps * r->o.batch) / seconds), speed), seconds,
           r->steps < r->corpus.train.steps ? "  (interrupted)" : "");
    keep_if_best(r, valid);
    return true;
}

static bool train(run *r)
{
    int64_t chars = r->corpus.train.steps * r->o.batch;
    r->optimizer =
        tl_optimizer_new(r->model.params, &(tl_optimizer_config){.kind = TL_ADAM, .rate = r->o.lr});
    if (!r->optimizer)
        return complain("out of memory");
    r->progress = tl_progress_begin(stderr, "chars", r->o.epochs * chars);
    for (r->epoch = 1; r->epoch <= r->o.epochs && !interrupted; r->epoch++)
        if (!run_epoch(r))
            return false;
    r->epoch--;
    if (!r->o.save || r->unsaved || r->best_epoch == 0)
        return true;
    printf("saved     %s, the model after epoch %lld\n", r->o.save, (long long)r->best_epoch);
    return r->best_epoch == r->epoch || load_parameters(&r->model, r->o.save); /* back to the best */
}

/* ---- writing ---------------------------------------------------------------------------- */

/* A code with probability softmax(logits / temperature). */
static int draw(const tl_vocabulary *v, const float *logits, double temperature, tl_random *random)
{
    int likeliest = 0;
    double weight[256], sum = 0;
    for (int i = 1; i < v->size; i++)
        if (logits[i] > logits[likeliest])
            likeliest = i;
    if (temperature <= 0)
        return likeliest;
    for (int i = 0; i < v->size; i++)
        sum += weight[i] = exp((logits[i] - logits[likeliest]) / temperature);
    double left = sum * tl_random_unit(random);
    for (int i = 0; i < v->size; i++)
        if ((left -= weight[i]) < 0)
            return i;
    return likeliest; /* rounding */
}

/* Reads one character; what is expected next goes to `logits`. */
static bool read_on(run *r, int64_t code, tl_var *state, float logits[256])
{
    tl_tape *t = r->tape;
    tl_var x = tl_constant_from(t, TL_I64, TL_SHAPE(1, 1), &code);
    tl_array y = tl_value(t, forward(t, &r->model, x, state));
    if (y.data)
        memcpy(logits, y.data, (size_t)y.layout->count * sizeof *logits);
    tl_tape_restart(t, tl_rnn_states(&r->model.rnn), state);
    return tl_tape_status(t) == TL_OK || complain("%s", tl_tape_message(t));
}

/* Bytes as they are, except that a terminal gets no control characters. */
static void write_byte(int byte, bool terminal)
{
    bool control = (byte < ' ' && byte != '\n' && byte != '\t') || byte == 127;
    putchar(terminal && control ? '?' : byte);
}

/* Reads the prompt (or a line's end, which is not shown), then goes on by itself. */
static bool write_sample(run *r)
{
    const tl_vocabulary *v = &r->model.vocabulary;
    bool terminal = isatty(STDOUT_FILENO);
    tl_random root = tl_random_seed((uint64_t)r->o.seed), random = tl_random_split(&root, 1);
    tl_var state[MOST_STATES];
    forget_states(state);
    int64_t shown = r->o.prompt ? r->prompt.count : 0;
    float logits[256];
    if (r->corpus.text.count)
        puts(""); /* below the losses */
    for (int64_t i = 0; i < r->prompt.count + r->o.sample && !interrupted; i++) {
        int code = i < r->prompt.count ? r->prompt.byte[i] : draw(v, logits, r->o.temperature, &random);
        if (i >= r->prompt.count - shown)
            write_byte(v->byte[code], terminal);
        if (!read_on(r, code, state, logits))
            return false;
    }
    puts("");
    tl_tape_reset(r->tape);
    return true;
}

/* ---- the whole -------------------------------------------------------------------------- */

/* Better now than after the first epoch. */
static bool can_be_saved(const char *path)
{
    struct stat old;
    char directory[PATH_MAX] = ".";
    if (stat(path, &old) == 0)
        return S_ISREG(old.st_mode) || complain("--save %s: not a regular file", path);
    const char *slash = strrchr(path, '/');
    if (slash)
        snprintf(directory, sizeof directory, "%.*s", slash == path ? 1 : (int)(slash - path), path);
    return access(directory, W_OK | X_OK) == 0 ||
           complain("--save %s: no file can be made in %s: %s", path, directory, strerror(errno));
}

/* What the sample begins with, as codes: the prompt, or a line's end. */
static bool encode_prompt(run *r)
{
    const tl_vocabulary *v = &r->model.vocabulary;
    tl_error error = {TL_OK, ""};
    if (r->o.prompt && !*r->o.prompt)
        r->o.prompt = NULL;
    bool line = v->code['\n'] >= 0;
    const char first[] = {line ? '\n' : (char)v->byte[0], '\0'};
    r->prompt.byte = (uint8_t *)strdup(r->o.prompt ? r->o.prompt : first);
    if (!r->prompt.byte)
        return complain("out of memory");
    r->prompt.count = r->o.prompt ? (int64_t)strlen(r->o.prompt) : 1;
    return tl_vocabulary_encode(v, r->prompt.count, r->prompt.byte, &error) == TL_OK ||
           complain("--prompt cannot be read by this model: %s", error.message);
}

/* All that can be wrong before the first step. */
static bool prepare(run *r, const char *program)
{
    options *o = &r->o;
    bool reads = o->epochs > 0 || o->path || !o->load;
    if ((o->save && !can_be_saved(o->save)) || (o->load && !recall(o, &r->model.vocabulary)) ||
        (reads && !read_corpus(&r->corpus, o, program, &r->model.vocabulary)) || !encode_prompt(r) ||
        !build_model(&r->model, o) || (o->load && !load_parameters(&r->model, o->load)))
        return false;
    long processors = sysconf(_SC_NPROCESSORS_ONLN);
    if (o->threads == 0)
        o->threads = processors > 0 ? processors : 1;
    r->tape = tl_tape_new(&(tl_tape_config){.threads = (int)o->threads});
    return r->tape || complain("out of memory");
}

static void print_heading(const run *r)
{
    const options *o = &r->o;
    char a[TL_NUMBER_TEXT], b[TL_NUMBER_TEXT], c[TL_NUMBER_TEXT];
    if (r->corpus.text.count) {
        printf("corpus    %s: %s bytes, %s to train, %s to validate\n", r->corpus.path,
               tl_count_text(r->corpus.text.count, a),
               tl_count_text(r->corpus.train.steps * r->corpus.train.batch, b),
               tl_count_text(r->corpus.valid.steps * r->corpus.valid.batch, c));
    }
    printf("model     %s, %lld layer%s of %lld, embedding %lld, vocabulary %d: %s parameters\n",
           o->cell, (long long)o->layers, o->layers > 1 ? "s" : "", (long long)o->hidden,
           (long long)o->embed, r->model.vocabulary.size,
           tl_count_text(tl_params_elements(r->model.params), a));
    if (o->epochs)
        printf(
            "training  %lld streams, updates every %lld steps, Adam %g, gradient norm %g, seed %lld\n",
            (long long)o->batch, (long long)o->k1, o->lr, o->clip, (long long)o->seed);
    printf("machine   %lld thread%s, matrix kernels %s\n\n", (long long)o->threads,
           o->threads > 1 ? "s" : "", tl_tape_kernels(r->tape));
}

static bool report(run *r, const char *part, const tl_streams *streams)
{
    double loss;
    if (streams->steps == 0 || interrupted)
        return true;
    if (!evaluate(r, streams, &loss))
        return false;
    printf("%-9s %.4f nats (%.3f bits)\n", part, loss, bits(loss));
    return true;
}

static bool carry_out(run *r)
{
    print_heading(r);
    if (r->o.epochs > 0 && !train(r))
        return false;
    if (r->o.epochs == 0) {
        if (!report(r, "valid", &r->corpus.valid))
            return false;
        r->unsaved = r->o.save && !save_model(&r->model, &r->o);
    }
    if (!report(r, "test", &r->corpus.test))
        return false;
    if (r->o.sample > 0 && !interrupted && !write_sample(r))
        return false;
    return !r->unsaved;
}

static void clean_up(run *r)
{
    tl_optimizer_free(r->optimizer);
    tl_tape_free(r->tape);
    free_model(&r->model);
    tl_text_free(&r->corpus.text);
    free(r->prompt.byte);
}

int main(int argc, char **argv)
{
    int code;
    run r = {.best = HUGE_VAL};
    if (!parse_options(&r.o, argc, argv, &code))
        return code;
    /* A second Ctrl-C ends at once. Writing past a limit of the system's is an error like others. */
    struct sigaction stop = {.sa_handler = interrupt, .sa_flags = (int)(SA_RESTART | SA_RESETHAND)};
    sigaction(SIGINT, &stop, NULL);
    sigaction(SIGTERM, &stop, NULL);
    signal(SIGXFSZ, SIG_IGN);
    setvbuf(stdout, NULL, _IOLBF, 0);
    bool fine = prepare(&r, argv[0]) && carry_out(&r);
    clean_up(&r);
    if (fflush(stdout) != 0 || ferror(stdout))
        fine = complain("cannot write the results: %s", strerror(errno));
    return !fine ? EXIT_FAILURE : interrupted ? 128 + interrupted : EXIT_SUCCESS;
}
