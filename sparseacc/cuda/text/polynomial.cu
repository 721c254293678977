// A thread has a channel of the atoms of a unit, which have the same row of weights, one after the other. What is
// computed is said by bits: $computed (1 the value, 2 the gradient of x, 4 that of coefficients), along tangents of
// $along (1 of x, 2 of coefficients).
extern "C" __global__ void __launch_bounds__($threads) $name(
    $parameters
)
{
    $absent
    const bool of_value = $computed & 1, of_rows = $computed & 2, of_coefs = $computed & 4, along = $along;
    const bool along_coefs = $along & 2;
    const long long channel = (long long)blockIdx.y * $threads + threadIdx.x;
    if (channel >= channels)
        return;
    $real p[$rows], zp[$along ? $rows : 1], dp[$computed & 2 ? $rows : 1], dzp[$computed & 2 && $along ? $rows : 1];
    for (long long unit = blockIdx.x; unit < units; unit += gridDim.x) {
        const long long row = unit / splits, split = unit % splits, n = begins[row + 1] - begins[row];
        const long long last = begins[row] + n * (split + 1) / splits;
        for (long long place = begins[row] + n * split / splits; place < last; ++place) {
            const long long atom = order[place];
            p[0] = 1;
            for (int m = 0; m < $n_in; ++m)
                p[1 + m] = real(x[(atom * $n_in + m) * channels + channel]);
            if (along) {
                zp[0] = 0;
                for (int m = 0; m < $n_in; ++m)
                    zp[1 + m] = $along & 1 ? real(zx[(atom * $n_in + m) * channels + channel]) : 0;
            }
            for (int k = 1 + $n_in; k < $rows; ++k) {
                const int left = factors[2 * (k - 1 - $n_in)], right = factors[2 * (k - 1 - $n_in) + 1];
                p[k] = p[left] * p[right];
                if (along)
                    zp[k] = $fma(zp[left], p[right], p[left] * zp[right]);
            }
            if (of_rows)
                for (int k = 0; k < $rows; ++k) {
                    dp[k] = 0;
                    if (along)
                        dzp[k] = 0;
                }
            const $real *coef = coefs + row * $coefs * channels + channel;
            const $real *zcoef = along_coefs ? zcoefs + row * $coefs * channels + channel : coef;
            $real *dcoef = of_coefs ? dcoefs + unit * $coefs * channels + channel : 0;
            const int *at = code;
            for (int mu = 0; mu < $n_out; ++mu) {
                const $real g = of_rows || of_coefs ? real(dout[(atom * $n_out + mu) * channels + channel]) : 0;
                $real value = 0;
                for (int groups = *at++; groups > 0; --groups) {
                    const int terms = at[0];
                    int left = at[1];
                    for (at += 2; left > 0; --left, at += 1 + terms) {
                        const int k = at[0];
                        $real sum = coef[0], zsum = along_coefs ? zcoef[0] : 0;
                        const $real u = g * p[k], zu = along ? g * zp[k] : 0;
                        if (of_coefs)
                            dcoef[0] += along ? zu : u;
                        for (int t = 1; t <= terms; ++t) {
                            const long long step = t * channels;
                            const int q = at[t];
                            const $real c = coef[step], zc = along_coefs ? zcoef[step] : 0;
                            sum = $fma(c, p[q], sum);
                            if (along)
                                zsum = $fma(c, zp[q], zsum);
                            if (along_coefs)
                                zsum = $fma(zc, p[q], zsum);
                            if (of_rows) {
                                dp[q] = $fma(c, u, dp[q]);
                                if (along)
                                    dzp[q] = $fma(c, zu, dzp[q]);
                                if (along_coefs)
                                    dzp[q] = $fma(zc, u, dzp[q]);
                            }
                            if (of_coefs)
                                dcoef[step] = along ? $fma(u, zp[q], $fma(zu, p[q], dcoef[step])) : $fma(u, p[q], dcoef[step]);
                        }
                        value = along ? $fma(p[k], zsum, $fma(zp[k], sum, value)) : $fma(p[k], sum, value);
                        if (of_rows) {
                            dp[k] = $fma(g, sum, dp[k]);
                            if (along)
                                dzp[k] = $fma(g, zsum, dzp[k]);
                        }
                        const long long passed = (1 + terms) * channels;
                        coef += passed;
                        if (along_coefs)
                            zcoef += passed;
                        if (of_coefs)
                            dcoef += passed;
                    }
                }
                if (of_value)
                    store(out[(atom * $n_out + mu) * channels + channel], value);
            }
            if (of_rows) {
                for (int k = $rows - 1; k > $n_in; --k)
                    for (int side = 0; side < 2; ++side) {
                        const int to = factors[2 * (k - 1 - $n_in) + side], by = factors[2 * (k - 1 - $n_in) + 1 - side];
                        dp[to] = $fma(dp[k], p[by], dp[to]);
                        if (along)
                            dzp[to] = $fma(dzp[k], p[by], $fma(dp[k], zp[by], dzp[to]));
                    }
                for (int m = 0; m < $n_in; ++m)
                    store(dx[(atom * $n_in + m) * channels + channel], along ? dzp[1 + m] : dp[1 + m]);
            }
        }
    }
}
