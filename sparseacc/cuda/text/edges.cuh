// Numbers of 16 bytes, which every thread reads from shared memory at once.
template <typename R>
struct __align__(16) quad {
    R v[16 / sizeof(R)];
};
