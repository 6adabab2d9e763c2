#include "nn/bptt.h"

tl_status tl_bptt_run(tl_tape *t, const tl_bptt *bptt, int64_t steps, int states, tl_var *state)
{
    int64_t k1 = bptt->k1 > 0 ? bptt->k1 : steps;
    for (int64_t from = 0; from < steps; from += k1) {
        int64_t to = steps - from < k1 ? steps : from + k1;
        tl_var loss = bptt->record(t, bptt->model, from, to, state);
        if (tl_backward(t, loss) != TL_OK)
            break;
        double value = tl_item(t, loss);
        bool go_on = !bptt->update || bptt->update(bptt->model, from, to, value);
        if (tl_tape_restart(t, states, state) != TL_OK || !go_on)
            break;
    }
    return tl_tape_status(t);
}
