#!/bin/sh
# What char_rnn promises to someone at a shell: that it learns, that a model comes back from its file,
# that the same seed gives the same results, and that no bad input is answered with silence, a crash
# or a damaged file.
#
# Usage: test_char_rnn.sh PROGRAM
set -u
export LC_ALL=C
program=$1
here=$(mktemp -d) || exit 1
trap 'rm -rf "$here"' EXIT
cd "$here" || exit 1
failures=0

fail() {
    echo "FAILED: $*"
    echo "--- stdout"; cat out
    echo "--- stderr"; cat err
    failures=$((failures + 1))
}

# Runs the program on a small model. Results in out and err, exit code in code.
run() {
    "$program" --hidden 16 --embed 8 --batch 8 --k1 16 --epochs 1 --sample 60 "$@" > out 2> err
    code=$?
}

# The same, without options that a loaded model already has.
reload() {
    "$program" --batch 8 --k1 16 --epochs 0 --sample 60 "$@" > out 2> err
    code=$?
}

# Of the last run, all but times and threads.
results() {
    sed -e 's/  [0-9,]* chars\/s.*//' -e '/^machine/d' -e '/^saved/d' out
}

expect_success() {
    [ "$code" -eq 0 ] || fail "$1: exit code $code, not 0"
    [ -s err ] && fail "$1: something on stderr"
}

# expect_complaint WHAT TEXT: exit code 1, and one line on stderr that contains the text.
expect_complaint() {
    [ "$code" -eq 1 ] || fail "$1: exit code $code, not 1"
    grep -q "^char_rnn: .*$2" err || fail "$1: stderr lacks '$2'"
    [ "$(wc -l < err)" -eq 1 ] || fail "$1: not one line on stderr"
}

# expect_same WHAT FILE: the results are those of an earlier run.
expect_same() {
    results | cmp -s - "$2" || fail "$1: other results than $2: $(cat "$2")"
}

# Words in an order that looks random, a sentence of them a line.
write_text() {
    awk -v bytes="$1" 'BEGIN {
        split("the tape plays a loop and the loop plays the same passage again until it is known", word)
        for (n = 1; written < bytes; n = (n * 137 + 29) % 10007) {
            text = word[n % 16 + 1] (n % 11 ? " " : ".\n")
            written += length(text)
            printf "%s", text
        }
    }'
}

# Nats a character that a model needs which knows nothing but how frequent each is.
unigram_entropy() {
    od -An -v -tu1 "$1" | awk '{ for (i = 1; i <= NF; i++) { count[$i]++; total++ } }
        END { for (c in count) nats -= count[c] / total * log(count[c] / total); print nats }'
}

# ---- it learns, and comes back from its file -------------------------------------------------------

write_text 12000 > text
run --epochs 3 --lr 0.02 --save model text
expect_success "training"
results > trained
loss=$(sed -n 's/^epoch 3.*valid \([0-9.]*\) nats.*/\1/p' out)
awk -v loss="$loss" -v entropy="$(unigram_entropy text)" 'BEGIN { exit !(loss > 0 && loss < 0.7 * entropy) }' ||
    fail "validation loss '$loss' is not well below the unigram entropy $(unigram_entropy text)"

reload --load model text
expect_success "loading"
grep -q "^valid *$loss nats" out || fail "the loaded model's validation loss is not $loss"
sed '1,/^test/d' out > sample_loaded
sed '1,/^test/d' trained | cmp -s - sample_loaded || fail "the loaded model writes another sample"

reload --load model --prompt "the tape " --temperature 0
expect_success "writing without a text"
grep -q "^the tape ." out || fail "the sample does not begin with its prompt"

for cell in rnn gru; do
    run --cell $cell --layers 2 --save $cell text
    expect_success "$cell"
    tail -n 1 out > written
    reload --load $cell
    expect_success "loading $cell"
    grep -q "$cell, 2 layers of 16, embedding 8" out || fail "$cell: sizes did not come back"
    tail -n 1 out | cmp -s - written || fail "$cell: the loaded model writes another sample"
done

# ---- the same, again and again ----------------------------------------------------------------------

run --threads 1 text
results > once
run --threads 1 text
expect_same "the same seed" once
run --threads 2 text
expect_same "two threads" once
run --threads 1 --seed 2 text
results | cmp -s - once && fail "another seed gives the same results"

write_text 3000 | tr 'ae' '\000\377' > binary
run binary
expect_success "a binary file"

# ---- bad options ------------------------------------------------------------------------------------

complains() { # TEXT, then what to run it with
    expected=$1
    shift
    run "$@"
    expect_complaint "$*" "$expected"
}

complains "unknown option --depth"                      --depth 3 text
complains "unknown option -q"                           text -qx
complains "option --lr wants a value"                   text --lr
complains "one text at a time"                          text text
complains "--hidden wants a whole number .*'abc'"       --hidden abc text
complains "--hidden wants a whole number .*'12x'"       --hidden 12x text
complains "--hidden wants a whole number .*''"          --hidden "" text
complains "--layers wants a whole number from 1 .*'0'"  --layers 0 text
complains "--batch wants a whole number .*'-8'"         --batch -8 text
complains "--epochs wants .*'99999999999999999999'"     --epochs 99999999999999999999 text
complains "--lr wants a number .*'-1'"                  --lr -1 text
complains "--lr wants a number .*'nan'"                 --lr nan text
complains "--valid wants a number .*'0.5'"              --valid 0.5 text
complains "--temperature wants a number .*'-1'"         --temperature -1 text
complains "--cell wants rnn, lstm or gru, not 'lstn'"   --cell lstn text
complains "--prompt .*0x23 '#'"                         --prompt "the #" text
"$program" --help > out 2> err || fail "--help"
grep -q -e "--temperature" out || fail "--help does not mention --temperature"

# ---- bad texts --------------------------------------------------------------------------------------

: > empty
head -c 100 text > short
head -c 200 text > without_validation
complains "nowhere: cannot be opened: No such file"     nowhere
complains "directory"                                   .
complains "empty: is empty"                             empty
complains "short is too short: .*8 times --k1 16"       short
complains "without_validation is too short"             --valid 0.01 without_validation
complains "text is too short"                           --limit 50 text
if [ "$(id -u)" -ne 0 ]; then # root may read everything
    echo secret > secret
    chmod 000 secret
    complains "secret: cannot be opened: Permission"    secret
fi

# ---- bad models ---------------------------------------------------------------------------------------

cp model good
head -c 2000 model > truncated
sed 's/"hidden":"16"/"hidden":"15"/' model > other_sizes
sed 's/"hidden":"16"/"hidden":"99"/' model > too_large
sed 's/"layers":"1"/"layers":"x"/' model > damaged
printf '\002\000\000\000\000\000\000\000{}' > foreign
complains "nowhere: cannot open: No such file"          --load nowhere text
complains "truncated: "                                 --load truncated text
complains "empty: "                                     --load empty text
complains "text: "                                      --load text text
complains "other_sizes is a model with --hidden 15, not 16" --load other_sizes text
complains "good is a model with --cell lstm, not gru"   --load good --cell gru text
complains "foreign is no model of char_rnn"             --load foreign text
sed 's/g/#/' text > other_text
complains "other_text does not fit the model good: .*'#'" --load good other_text

reload --load other_sizes
expect_complaint "other sizes" "other_sizes does not fit the model: .*weight_ih_l0 is f32 \[64,8\] in the file, \[60,8\] here"
reload --load too_large
expect_complaint "too large a size" "too_large: its tensors are smaller than its metadata says"
reload --load damaged
grep -q "layers wants .* not 'x'" err && grep -q "damaged: its metadata is damaged" err ||
    fail "damaged metadata: no complaint"
[ "$code" -eq 1 ] || fail "damaged metadata: exit code $code, not 1"

# ---- saving that fails leaves the old file whole --------------------------------------------------------

good_is_whole() {
    cmp -s model good || fail "$1: the old file was changed"
    leftover=$(ls -A | grep tapeloop-)
    [ -z "$leftover" ] || fail "$1: $leftover was left behind"
}

(ulimit -f 4; run --save good text; exit "$code")
code=$?
expect_complaint "a full disk" "good: cannot write: File too large"
grep -q "^epoch 1/1" out || fail "a full disk: the results are missing"
good_is_whole "a full disk"
complains "not a regular file"                          --save /dev/full text
complains "not a regular file"                          --save . text
complains "no file can be made in nowhere"              --save nowhere/model text
run --cell rnn --lr 1e38 --clip 0 --save good text
expect_complaint "divergence" "diverged in epoch 1"
good_is_whole "divergence"
if [ -w /dev/full ]; then
    "$program" --load good --epochs 0 --sample 60 > /dev/full 2> err
    code=$?
    expect_complaint "a full disk for the results" "cannot write the results: No space left"
fi

# ---- Ctrl-C -------------------------------------------------------------------------------------------------

# As Ctrl-C would in the middle of a long training: the step is finished, the model saved.
"$program" --hidden 16 --embed 8 --batch 8 --k1 16 --epochs 1000000 --save stopped text > out 2> err &
process=$!
for _ in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
    grep -q "^epoch 2" out && break
    sleep 0.2
done
kill -INT $process
wait $process
code=$?
[ "$code" -eq 130 ] || fail "Ctrl-C: exit code $code, not 130"
grep -q "^saved     stopped, the model after epoch" out || fail "Ctrl-C: nothing was saved"
reload --load stopped
expect_success "loading after Ctrl-C"

[ "$failures" -eq 0 ] && echo "all is well"
exit "$failures"
