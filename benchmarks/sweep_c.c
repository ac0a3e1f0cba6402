// Model PC of Godley and Lavoie in C, with OpenMP: the yardsticks of benchmarks/sweep_c.py.
//
// Every run has its own parameters. Equations and their order are those of macrostat_jax/models/gl06pc.py.
//
// params: (PARAMETERS, runs); scenario: (3, periods), of demand, wage and interest rate.

#include <stddef.h>

enum { PARAMETERS = 6, VARIABLES = 14 };

// As one would write it down: run after run, the threads share the runs. out: (runs, periods, VARIABLES).
void sweep(const double *params, const double *scenario, double *out, ptrdiff_t runs, ptrdiff_t periods) {
#pragma omp parallel for schedule(static)
    for (ptrdiff_t i = 0; i < runs; i++) {
        const double tax = params[i], mpc_y = params[runs + i], mpc_w = params[2 * runs + i];
        const double share = params[3 * runs + i], share_r = params[4 * runs + i];
        const double share_y = params[5 * runs + i];
        double wealth = 0, bills_h = 0, bills_cb = 0, bills_g = 0, money_cb = 0, rate = 0;
        for (ptrdiff_t t = 0; t < periods; t++) {
            const double demand = scenario[t], r = scenario[2 * periods + t];
            const double interest_h = rate * bills_h, interest_cb = rate * bills_cb;
            const double interest_g = rate * bills_g, out_of_wealth = mpc_w * wealth;
            const double disposable =
                (1 - tax) * (demand + interest_h + out_of_wealth) / (1 - mpc_y * (1 - tax));
            const double consumption = mpc_y * disposable + out_of_wealth;
            const double income = consumption + demand, taxes = tax * (income + interest_h);
            const double v = wealth + disposable - consumption;
            const double b_h = (share + share_r * r) * v - share_y * disposable;
            const double b_g = bills_g + demand + interest_g - taxes - interest_cb;
            const double b_cb = b_g - b_h, h_cb = money_cb + b_cb - bills_cb;
            double *state = out + (i * periods + t) * VARIABLES;
            state[0] = consumption;
            state[1] = demand;
            state[2] = income;
            state[3] = interest_h;
            state[4] = interest_cb;
            state[5] = taxes;
            state[6] = v - b_h;
            state[7] = h_cb;
            state[8] = b_h;
            state[9] = b_g;
            state[10] = b_cb;
            state[11] = v;
            state[12] = r;
            state[13] = disposable;
            wealth = v;
            bills_h = b_h;
            bills_g = b_g;
            bills_cb = b_cb;
            money_cb = h_cb;
            rate = r;
        }
    }
}

// The mean squared distance of each run's national income to data (periods): out (runs). No path is kept.
void losses(const double *params, const double *scenario, const double *data, double *out, ptrdiff_t runs,
            ptrdiff_t periods) {
#pragma omp parallel for schedule(static)
    for (ptrdiff_t i = 0; i < runs; i++) {
        const double tax = params[i], mpc_y = params[runs + i], mpc_w = params[2 * runs + i];
        const double share = params[3 * runs + i], share_r = params[4 * runs + i];
        const double share_y = params[5 * runs + i];
        double wealth = 0, bills_h = 0, rate = 0, total = 0;
        for (ptrdiff_t t = 0; t < periods; t++) {
            const double demand = scenario[t], r = scenario[2 * periods + t];
            const double interest_h = rate * bills_h, out_of_wealth = mpc_w * wealth;
            const double disposable =
                (1 - tax) * (demand + interest_h + out_of_wealth) / (1 - mpc_y * (1 - tax));
            const double consumption = mpc_y * disposable + out_of_wealth;
            const double gap = consumption + demand - data[t];
            wealth = wealth + disposable - consumption;
            total += gap * gap;
            bills_h = (share + share_r * r) * wealth - share_y * disposable;
            rate = r;
        }
        out[i] = total / periods;
    }
}

// As one would tune it: runs are followed BLOCK at a time, so that their states stay in the first cache and
// the compiler can use vector instructions. out: (VARIABLES, periods, runs).
enum { BLOCK = 256 };

static void block(const double *params, const double *scenario, double *out, ptrdiff_t runs,
                  ptrdiff_t periods, ptrdiff_t first, ptrdiff_t count) {
    double wealth[BLOCK] = {0}, bills_h[BLOCK] = {0}, bills_cb[BLOCK] = {0}, bills_g[BLOCK] = {0};
    double money_cb[BLOCK] = {0}, rate[BLOCK] = {0};
    const double *tax = params + first, *mpc_y = params + runs + first;
    const double *mpc_w = params + 2 * runs + first, *share = params + 3 * runs + first;
    const double *share_r = params + 4 * runs + first, *share_y = params + 5 * runs + first;
    for (ptrdiff_t t = 0; t < periods; t++) {
        const double demand = scenario[t], r = scenario[2 * periods + t];
        double *row[VARIABLES];
        for (int v = 0; v < VARIABLES; v++) row[v] = out + (v * periods + t) * runs + first;
#pragma omp simd
        for (ptrdiff_t i = 0; i < count; i++) {
            const double interest_h = rate[i] * bills_h[i], interest_cb = rate[i] * bills_cb[i];
            const double interest_g = rate[i] * bills_g[i];
            const double out_of_wealth = mpc_w[i] * wealth[i];
            const double disposable = (1 - tax[i]) * (demand + interest_h + out_of_wealth) /
                                      (1 - mpc_y[i] * (1 - tax[i]));
            const double consumption = mpc_y[i] * disposable + out_of_wealth;
            const double income = consumption + demand;
            const double taxes = tax[i] * (income + interest_h);
            const double v = wealth[i] + disposable - consumption;
            const double b_h = (share[i] + share_r[i] * r) * v - share_y[i] * disposable;
            const double b_g = bills_g[i] + demand + interest_g - taxes - interest_cb;
            const double b_cb = b_g - b_h;
            const double h_cb = money_cb[i] + b_cb - bills_cb[i];
            row[0][i] = consumption;
            row[1][i] = demand;
            row[2][i] = income;
            row[3][i] = interest_h;
            row[4][i] = interest_cb;
            row[5][i] = taxes;
            row[6][i] = v - b_h;
            row[7][i] = h_cb;
            row[8][i] = b_h;
            row[9][i] = b_g;
            row[10][i] = b_cb;
            row[11][i] = v;
            row[12][i] = r;
            row[13][i] = disposable;
            wealth[i] = v;
            bills_h[i] = b_h;
            bills_g[i] = b_g;
            bills_cb[i] = b_cb;
            money_cb[i] = h_cb;
            rate[i] = r;
        }
    }
}

void sweep_blocked(const double *params, const double *scenario, double *out, ptrdiff_t runs,
                   ptrdiff_t periods) {
#pragma omp parallel for schedule(static)
    for (ptrdiff_t first = 0; first < runs; first += BLOCK)
        block(params, scenario, out, runs, periods, first,
              runs - first < BLOCK ? runs - first : BLOCK);
}

// The same losses, tuned in the same way.
static void block_loss(const double *params, const double *scenario, const double *data, double *out,
                       ptrdiff_t runs, ptrdiff_t periods, ptrdiff_t first, ptrdiff_t count) {
    double wealth[BLOCK] = {0}, bills_h[BLOCK] = {0}, rate[BLOCK] = {0}, total[BLOCK] = {0};
    const double *tax = params + first, *mpc_y = params + runs + first;
    const double *mpc_w = params + 2 * runs + first, *share = params + 3 * runs + first;
    const double *share_r = params + 4 * runs + first, *share_y = params + 5 * runs + first;
    for (ptrdiff_t t = 0; t < periods; t++) {
        const double demand = scenario[t], r = scenario[2 * periods + t], target = data[t];
#pragma omp simd
        for (ptrdiff_t i = 0; i < count; i++) {
            const double interest_h = rate[i] * bills_h[i];
            const double out_of_wealth = mpc_w[i] * wealth[i];
            const double disposable = (1 - tax[i]) * (demand + interest_h + out_of_wealth) /
                                      (1 - mpc_y[i] * (1 - tax[i]));
            const double consumption = mpc_y[i] * disposable + out_of_wealth;
            const double gap = consumption + demand - target;
            const double v = wealth[i] + disposable - consumption;
            total[i] += gap * gap;
            wealth[i] = v;
            bills_h[i] = (share[i] + share_r[i] * r) * v - share_y[i] * disposable;
            rate[i] = r;
        }
    }
    for (ptrdiff_t i = 0; i < count; i++) out[first + i] = total[i] / periods;
}

void losses_blocked(const double *params, const double *scenario, const double *data, double *out,
                    ptrdiff_t runs, ptrdiff_t periods) {
#pragma omp parallel for schedule(static)
    for (ptrdiff_t first = 0; first < runs; first += BLOCK)
        block_loss(params, scenario, data, out, runs, periods, first,
                   runs - first < BLOCK ? runs - first : BLOCK);
}
