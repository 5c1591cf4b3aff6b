//! RocksDB's options: little memory, few threads, no wake-ups that the store does not need.

use rocksdb::{BlockBasedOptions, Cache, DBRecoveryMode, LogLevel, Options};

/// Shared by all families: hot blocks. The daemons keep their working state in their own memory, so the
/// store is read at start and seldom after.
const BLOCK_CACHE_BYTES: usize = 8 << 20;

/// Memtable of one family, and how many may wait for their flush.
const WRITE_BUFFER_BYTES: usize = 4 << 20;
const WRITE_BUFFERS: i32 = 2;

/// All memtables of the store together.
const ALL_WRITE_BUFFERS_BYTES: usize = 24 << 20;

/// Beyond this much write-ahead log, families that were written long ago are flushed so that it can be dropped:
/// bounds the disk it takes and the time of a restart.
const WAL_BYTES: u64 = 32 << 20;

/// Bounds the table cache, and with it descriptors and memory.
const OPEN_FILES: i32 = 64;

/// One flush and one compaction at a time.
const BACKGROUND_JOBS: i32 = 2;

/// The manifest begins anew beyond this.
const MANIFEST_BYTES: usize = 4 << 20;

/// RocksDB's own log files.
const INFO_LOG_BYTES: usize = 1 << 20;
const INFO_LOGS: usize = 2;

pub(crate) fn database() -> Options {
    let mut options = Options::default();
    options.create_if_missing(true);
    options.create_missing_column_families(true);
    // A power loss leaves a torn or zeroed tail in the log. Everything before the first damaged record is
    // taken, in order; what was acknowledged as synced lies before it. Recycled log files would put old
    // records behind that tail, so they are off (their default).
    options.set_wal_recovery_mode(DBRecoveryMode::PointInTime);
    options.set_paranoid_checks(true);
    // After a full disk RocksDB flushes all families and begins a new log. A crash in the midst of that must not
    // leave some families ahead of the log's torn end and others behind: the store could not be opened.
    options.set_atomic_flush(true);
    options.set_db_write_buffer_size(ALL_WRITE_BUFFERS_BYTES);
    options.set_max_total_wal_size(WAL_BYTES);
    options.set_max_open_files(OPEN_FILES);
    options.set_max_background_jobs(BACKGROUND_JOBS);
    options.set_max_manifest_file_size(MANIFEST_BYTES);
    options.set_log_level(LogLevel::Warn);
    options.set_max_log_file_size(INFO_LOG_BYTES);
    options.set_keep_log_file_num(INFO_LOGS);
    // Statistics would be dumped and persisted by a timer.
    options.set_stats_dump_period_sec(0);
    options.set_stats_persist_period_sec(0);
    options
}

/// Options of one family; the cache is shared between them.
pub(crate) fn family(cache: &Cache) -> Options {
    let mut blocks = BlockBasedOptions::default();
    blocks.set_block_cache(cache);
    // Index and filter blocks count against the cache instead of growing beside it.
    blocks.set_cache_index_and_filter_blocks(true);
    blocks.set_pin_l0_filter_and_index_blocks_in_cache(true);
    blocks.set_bloom_filter(10.0, false);
    let mut options = Options::default();
    options.set_write_buffer_size(WRITE_BUFFER_BYTES);
    options.set_max_write_buffer_number(WRITE_BUFFERS);
    options.set_block_based_table_factory(&blocks);
    options
}

pub(crate) fn cache() -> Cache {
    Cache::new_lru_cache(BLOCK_CACHE_BYTES)
}
