#include "data/traj.h"

#include <stdlib.h>

const char *traj_outcome_name(traj_outcome o)
{
    static const char *const names[] = {
#define TRAJ_NAME(id, name) name,
        TRAJ_OUTCOMES(TRAJ_NAME)
#undef TRAJ_NAME
    };
    CHECK((int)o >= 0 && o < TRAJ_OUTCOME_COUNT);
    return names[o];
}

void traj_free(traj *t)
{
    for (int i = 0; i < t->n_turn; i++) {
        free(t->turns[i].text);
        free(t->turns[i].code);
        free(t->turns[i].tool_text);
    }
    for (int i = t->n_borrowed; i < t->n_image; i++) image_free(&t->images[i].view);
    free(t->turns);
    free(t->images);
    free(t->run);
    free(t->id);
    free(t->mask);
    free(t->logp);
    free(t->turn_of);
    free(t->answer);
    free(t->adv);
    *t = (traj){0};
}
