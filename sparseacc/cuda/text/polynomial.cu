// A thread has a channel of the atoms of a unit, which have the same row of weights, some at a time: so often each
// coefficient and each entry of the code is read. What is computed is said by bits: $computed (1 the value, 2 the
// gradient of x, 4 that of coefficients), along tangents of $along (1 of x, 2 of coefficients). A z is for a tangent.
constexpr bool of_value = $computed & 1, of_rows = $computed & 2, of_coefs = $computed & 4;
constexpr bool along_x = $along & 1, along_coefs = $along & 2, along = $along;

struct __align__($bytes) Few {
    $real of[$atoms];
};

// Where this thread has what belongs to a component.
#define PLACE(m) ($index)
#define EACH _Pragma("unroll") for (int a = 0; a < $atoms; ++a)

// The product of some components, and its tangent; but for one of them, if `but` is not negative.
__device__ __forceinline__ void product(Few &p, Few &zp, const int *of, int n, int but, const Few *x, const Few *z)
{
    EACH {
        p.of[a] = 1;
        zp.of[a] = 0;
    }
#pragma unroll 1
    for (int i = 0; i < n; ++i) {
        if (i == but)
            continue;
        const Few by = x[PLACE(of[i])];
        if (along_x) {
            const Few zby = z[PLACE(of[i])];
            EACH zp.of[a] = $fma(zp.of[a], by.of[a], p.of[a] * zby.of[a]);
        }
        EACH p.of[a] *= by.of[a];
    }
}

extern "C" __global__ void __launch_bounds__($threads, $blocks) $name(
    $parameters
)
{
    $absent
    $arrays
    const long long step_of_channels = (long long)gridDim.y * $threads;
    for (long long channel = (long long)blockIdx.y * $threads + threadIdx.x; channel < channels; channel += step_of_channels)
    for (long long unit = blockIdx.x; unit < units; unit += gridDim.x) {
        const long long row = row_of_unit[unit], last = begins[unit + 1];
        for (long long place = begins[unit]; place < last; place += $atoms) {
#pragma unroll 2  // as far as compilers go for most GPUs; for some they go through all m at once, and spill
            for (int m = 0; m < $n_in; ++m) {
                Few now, tangent;
                EACH {
                    const bool there = place + a < last;
                    const long long at = (order[there ? place + a : place] * $n_in + m) * channels + channel;
                    now.of[a] = there ? real(x_rows[at]) : 0;
                    tangent.of[a] = there && along_x ? real(zx_rows[at]) : 0;
                }
                x[PLACE(m)] = now;
                if (along_x)
                    z[PLACE(m)] = tangent;
                if (of_rows)
                    d[PLACE(m)] = {};
            }
            const int *at = code;
            for (int mu = 0; mu < $n_out; ++mu) {
                Few g, value = {};
                EACH {
                    const bool there = place + a < last && (of_rows || of_coefs);
                    const long long atom = order[there ? place + a : place];
                    g.of[a] = there ? real(dout[(atom * $n_out + mu) * channels + channel]) : 0;
                }
                for (int nodes = *at++; nodes > 0; --nodes) {
                    const int factors = at[1], terms = at[2];
                    const int *const factor = at + 3, *const term = factor + factors;
                    const long long first = (row * $coefs + at[0]) * channels + channel;
                    const $real *const coef = coefs + first, *const zcoef = along_coefs ? zcoefs + first : coef;
                    $real *const dcoef = of_coefs ? dcoefs + (unit * $coefs + at[0]) * channels + channel : 0;
                    at = term + terms;
                    Few p, zp, sum, zsum, u, zu;
                    product(p, zp, factor, factors, -1, x, z);
                    EACH {
                        sum.of[a] = coef[0];
                        zsum.of[a] = along_coefs ? zcoef[0] : 0;
                        u.of[a] = g.of[a] * p.of[a];
                        zu.of[a] = g.of[a] * zp.of[a];
                    }
                    if (of_coefs) {
                        $real total = dcoef[0];
                        EACH total += along ? zu.of[a] : u.of[a];
                        dcoef[0] = total;
                    }
#pragma unroll 2
                    for (int t = 0; t < terms; ++t) {
                        const long long step = (t + 1) * channels;
                        const $real c = coef[step], zc = along_coefs ? zcoef[step] : 0;
                        const Few q = x[PLACE(term[t])], zq = along_x ? z[PLACE(term[t])] : Few{};
                        EACH {
                            sum.of[a] = $fma(c, q.of[a], sum.of[a]);
                            if (along_x)
                                zsum.of[a] = $fma(c, zq.of[a], zsum.of[a]);
                            if (along_coefs)
                                zsum.of[a] = $fma(zc, q.of[a], zsum.of[a]);
                        }
                        if (of_rows) {
                            Few to = d[PLACE(term[t])];
                            EACH {
                                if (along_coefs)
                                    to.of[a] = $fma(zc, u.of[a], to.of[a]);
                                if (along_x || !along)
                                    to.of[a] = $fma(c, along ? zu.of[a] : u.of[a], to.of[a]);
                            }
                            d[PLACE(term[t])] = to;
                        }
                        if (of_coefs && (along_x || !along)) {
                            $real total = dcoef[step];
                            EACH total = along ? $fma(u.of[a], zq.of[a], $fma(zu.of[a], q.of[a], total))
                                               : $fma(u.of[a], q.of[a], total);
                            dcoef[step] = total;
                        }
                    }
                    EACH {
                        if (along)
                            value.of[a] = $fma(p.of[a], zsum.of[a], $fma(zp.of[a], sum.of[a], value.of[a]));
                        else
                            value.of[a] = $fma(p.of[a], sum.of[a], value.of[a]);
                    }
                    if (of_rows)
                        for (int i = 0; i < factors; ++i) {
                            Few others, zothers, to = d[PLACE(factor[i])];
                            product(others, zothers, factor, factors, i, x, z);
                            EACH {
                                to.of[a] = $fma(g.of[a] * (along ? zsum.of[a] : sum.of[a]), others.of[a], to.of[a]);
                                if (along_x)
                                    to.of[a] = $fma(g.of[a] * sum.of[a], zothers.of[a], to.of[a]);
                            }
                            d[PLACE(factor[i])] = to;
                        }
                }
                if (of_value)
                    EACH if (place + a < last)
                        store(out[(order[place + a] * $n_out + mu) * channels + channel], value.of[a]);
            }
            if (of_rows)
                for (int m = 0; m < $n_in; ++m) {
                    const Few now = d[PLACE(m)];
                    EACH if (place + a < last)
                        store(dx[(order[place + a] * $n_in + m) * channels + channel], now.of[a]);
                }
        }
    }
}
