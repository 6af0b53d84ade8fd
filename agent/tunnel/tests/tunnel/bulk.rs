//! Much data both ways at once, with bounded memory.

use skiff_tunnel::Options;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, split};

use crate::support::{Echo, target, tunnels};

/// The bytes that go each way: 32 MiB, or as many MiB as `SKIFF_TUNNEL_MIB` says.
fn size() -> u64 {
    let mib = std::env::var("SKIFF_TUNNEL_MIB").ok().and_then(|mib| mib.parse().ok()).unwrap_or(32u64);
    mib << 20
}

fn chunk(at: u64) -> [u8; 8] {
    at.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_be_bytes()
}

async fn check(mut reader: impl AsyncRead + Unpin, size: u64) {
    let mut bytes = vec![0; 64 << 10];
    for at in (0..size).step_by(bytes.len()) {
        reader.read_exact(&mut bytes).await.unwrap();
        for (number, got) in bytes.chunks(8).enumerate() {
            assert_eq!(got, chunk(at + 8 * number as u64), "at {at}");
        }
    }
    assert_eq!(reader.read(&mut bytes).await.unwrap(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn much_data_both_ways_needs_no_more_memory_than_little() {
    let options = Options::default();
    let (a, b) = tunnels(options, Echo, Echo).await;
    let size = size();
    let (mut tasks, streams) = (Vec::new(), 2);
    for _ in 0..streams {
        let (reader, mut writer) = split(a.open(target()).await.unwrap());
        tasks.push(tokio::spawn(check(reader, size / streams)));
        tasks.push(tokio::spawn(async move {
            let mut bytes = vec![0; 64 << 10];
            for at in (0..size / streams).step_by(bytes.len()) {
                for (number, place) in bytes.chunks_mut(8).enumerate() {
                    place.copy_from_slice(&chunk(at + 8 * number as u64));
                }
                writer.write_all(&bytes).await.unwrap();
            }
            writer.shutdown().await.unwrap();
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    // Each of the streams holds its full window and buffer at most, at either end.
    let bound = streams * u64::from(options.max_window_bytes + options.send_buffer_bytes);
    for tunnel in [&a, &b] {
        let peak = tunnel.status().buffered_bytes_peak;
        println!("{} MiB both ways, at most {} KiB held", size >> 20, peak >> 10);
        assert!(peak <= bound, "{peak}");
    }
}
