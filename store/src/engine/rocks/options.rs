//! Settings of RocksDB.

use rocksdb::{
    BlockBasedIndexType, BlockBasedOptions, Cache, ColumnFamilyDescriptor, DBCompressionType,
    DataBlockIndexType, Env, LogLevel, Options, WriteBufferManager,
};

use super::error;
use crate::engine::Cf;
use crate::error::Result;

/// RocksDB ends the process where it cannot map its table for a tiny cache.
const MIN_CACHE: usize = 1 << 20;

/// Flushed tables of a column family that may wait for compaction before writes
/// wait for it.
const LEVEL_ZERO_STOP: i32 = 40;

/// Settings of a [`super::RocksEngine`]. The defaults suit a machine of two
/// cores and some GiB of memory.
#[derive(Debug, Clone)]
pub struct RocksOptions {
    /// Write buffers of all column families together, in bytes. At seven
    /// eighths of it, everything is flushed.
    pub memtable_bytes: usize,
    /// Cache of uncompressed blocks, indexes and filters, in bytes.
    pub block_cache_bytes: usize,
    /// Most tables held open.
    pub max_open_files: i32,
    /// Most flushes and compactions at once.
    pub background_jobs: i32,
    /// Read and check everything at opening.
    pub verify: bool,
    /// Compact in the background; without, only when asked to.
    pub compact: bool,
}

impl Default for RocksOptions {
    fn default() -> Self {
        Self {
            memtable_bytes: 64 << 20,
            block_cache_bytes: 64 << 20,
            max_open_files: 512,
            background_jobs: 2,
            verify: false,
            compact: true,
        }
    }
}

impl RocksOptions {
    /// The settings of the whole database.
    pub(super) fn database(&self, create: bool) -> Result<Options> {
        let mut env = Env::new().map_err(|e| error("set up RocksDB", e))?;
        // Compaction must not take the cores from the requests.
        env.lower_thread_pool_cpu_priority();
        let mut options = Options::default();
        options.set_env(&env);
        options.create_if_missing(create);
        options.create_missing_column_families(create);
        options.set_error_if_exists(create);
        options.set_paranoid_checks(true);
        options.set_atomic_flush(true);
        options.set_max_open_files(self.max_open_files);
        options.set_max_background_jobs(self.background_jobs);
        // No stalls at this bound: a disk that cannot take a flush must give an
        // error, not a hang. Writes wait where a column family has
        // `max_write_buffer_number` buffers to flush.
        options.set_write_buffer_manager(&WriteBufferManager::new_write_buffer_manager(
            self.memtable_bytes,
            false,
        ));
        // There is one writer.
        options.set_allow_concurrent_memtable_write(false);
        options.set_enable_write_thread_adaptive_yield(false);
        // Small steps of writing back: a large one would hold up the fsync of
        // the replicated log on the same disk.
        options.set_bytes_per_sync(1 << 20);
        options.set_compaction_readahead_size(1 << 20);
        // Files are removed by background threads, not by whoever drops a snapshot.
        options.set_avoid_unnecessary_blocking_io(true);
        options.set_max_manifest_file_size(4 << 20);
        options.set_log_level(LogLevel::Warn);
        options.set_max_log_file_size(1 << 20);
        options.set_keep_log_file_num(2);
        options.set_stats_dump_period_sec(0);
        options.set_stats_persist_period_sec(0);
        Ok(options)
    }

    /// The settings of every column family; they share one cache.
    pub(super) fn families(&self) -> Result<Vec<ColumnFamilyDescriptor>> {
        let cache = Cache::new_hyper_clock_cache(self.block_cache_bytes.max(MIN_CACHE), 0);
        let mut families = Vec::new();
        for cf in Cf::ALL {
            families.push(ColumnFamilyDescriptor::new(cf.name(), self.family(cf, &cache)?));
        }
        // RocksDB insists on a family of this name; it stays empty. After a full
        // disk RocksDB goes on once there is room for the largest write buffer:
        // that must not be this one's.
        let mut unused = Options::default();
        unused.set_write_buffer_size(64 << 10);
        families.push(ColumnFamilyDescriptor::new(rocksdb::DEFAULT_COLUMN_FAMILY_NAME, unused));
        Ok(families)
    }

    /// The settings of one column family.
    fn family(&self, cf: Cf, cache: &Cache) -> Result<Options> {
        let large = matches!(cf, Cf::Kv | Cf::Events);
        // Reads look at every removed range of a write buffer.
        let mut options = Options::default()
            .get_options_from_string("memtable_max_range_deletions=1000")
            .map_err(|e| error("set up RocksDB", e))?;
        options.set_compression_type(DBCompressionType::Lz4);
        options.set_write_buffer_size(if large { self.memtable_bytes / 2 } else { self.memtable_bytes / 8 });
        options.set_max_write_buffer_number(3);
        options.set_disable_auto_compactions(!self.compact);
        // No slowing down before stopping: see `RocksEngine::write`.
        options.set_level_zero_slowdown_writes_trigger(LEVEL_ZERO_STOP);
        options.set_level_zero_stop_writes_trigger(LEVEL_ZERO_STOP);
        options.set_soft_pending_compaction_bytes_limit(0);
        options.set_hard_pending_compaction_bytes_limit(0);
        options.set_target_file_size_base(32 << 20);
        options.set_max_bytes_for_level_base(128 << 20);
        let mut table = BlockBasedOptions::default();
        table.set_block_cache(cache);
        table.set_block_size(8 << 10);
        // Indexes and filters count against the cache's bound.
        table.set_index_type(BlockBasedIndexType::TwoLevelIndexSearch);
        table.set_partition_filters(true);
        table.set_metadata_block_size(8 << 10);
        table.set_cache_index_and_filter_blocks(true);
        table.set_cache_index_and_filter_blocks_with_high_priority(true);
        table.set_pin_l0_filter_and_index_blocks_in_cache(true);
        table.set_pin_top_level_index_and_filter(true);
        match cf {
            // Read by whole keys (a user's key and its revision) that are there:
            // filters spare the upper levels; the lowest needs none.
            Cf::Kv => {
                table.set_bloom_filter(10.0, false);
                table.set_whole_key_filtering(true);
                table.set_data_block_index_type(DataBlockIndexType::BinaryAndHash);
                table.set_data_block_hash_ratio(0.75);
                options.set_optimize_filters_for_hits(true);
                options.set_memtable_whole_key_filtering(true);
                options.set_memtable_prefix_bloom_ratio(0.02);
                // Compaction of history leaves tombstones behind: a table with
                // many is rewritten before its level is full.
                options.add_compact_on_deletion_collector_factory(8192, 4096, 0.5);
            }
            // Appended in ascending order, read in order, cut off at the low
            // end: its tables do not overlap, filters would find nothing.
            Cf::Events => {}
            Cf::Leases | Cf::Meta => table.set_bloom_filter(10.0, false),
        }
        options.set_block_based_table_factory(&table);
        Ok(options)
    }
}
