/* HDF5 filter 32015: one zstd frame per chunk, cd_values[0] = level; the same bytes on disk as the public plug-in. This
 * file is compiled twice: into the program (shard_register_zstd) and, with SHARD_PLUGIN, as a plug-in that lets h5py
 * and h5dump read shards: HDF5_PLUGIN_PATH=build/h5plugin h5dump x.h5 */
#include "data/shard_h5.h"

#ifdef HAVE_HDF5

#include <hdf5.h>
#include <zstd.h>

enum { FILTER = 32015, DEFAULT_LEVEL = 3 };
#define CHUNK_MAX (1ull << 31)

static size_t unpack(size_t n, size_t *cap, void **buf)
{
    unsigned long long want = ZSTD_getFrameContentSize(*buf, n);
    if (want >= ZSTD_CONTENTSIZE_ERROR || want > CHUNK_MAX) return 0; /* also "unknown": no writer leaves it out */
    size_t room = want ? (size_t)want : 1;
    void *out = H5allocate_memory(room, 0);
    if (!out) return 0;
    size_t got = ZSTD_decompress(out, room, *buf, n);
    if (ZSTD_isError(got) || got != want) {
        H5free_memory(out);
        return 0;
    }
    H5free_memory(*buf);
    *buf = out, *cap = room;
    return got;
}

/* With the frame's own checksum, so that flipped bits are an error and not other pixels. */
static size_t pack(int level, size_t n, size_t *cap, void **buf)
{
    size_t room = ZSTD_compressBound(n), got = 0;
    void *out = H5allocate_memory(room, 0);
    ZSTD_CCtx *c = ZSTD_createCCtx();
    if (out && c) {
        ZSTD_CCtx_setParameter(c, ZSTD_c_compressionLevel, level);
        ZSTD_CCtx_setParameter(c, ZSTD_c_checksumFlag, 1);
        got = ZSTD_compress2(c, out, room, *buf, n);
        if (ZSTD_isError(got)) got = 0;
    }
    ZSTD_freeCCtx(c);
    if (!got) {
        if (out) H5free_memory(out);
        return 0;
    }
    H5free_memory(*buf);
    *buf = out, *cap = room;
    return got;
}

static size_t filter(unsigned flags, size_t n_value, const unsigned value[], size_t n, size_t *cap, void **buf)
{
    if (flags & H5Z_FLAG_REVERSE) return unpack(n, cap, buf);
    return pack(n_value ? (int)value[0] : DEFAULT_LEVEL, n, cap, buf);
}

static const H5Z_class2_t CLASS = {H5Z_CLASS_T_VERS, FILTER, 1, 1, "zstd", NULL, NULL, filter};

#ifdef SHARD_PLUGIN

#include <H5PLextern.h>
__attribute__((visibility("default"))) H5PL_type_t H5PLget_plugin_type(void) { return H5PL_TYPE_FILTER; }
__attribute__((visibility("default"))) const void *H5PLget_plugin_info(void) { return &CLASS; }

#else

status shard_register_zstd(void)
{
    if (H5Zfilter_avail(FILTER) > 0) return ST_OK;
    return H5Zregister(&CLASS) >= 0 ? ST_OK : FAIL(ST_EUNAVAIL, "HDF5 refused the zstd filter");
}

#endif
#endif
