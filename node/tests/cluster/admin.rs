//! The HTTP port: what it answers, and that it measures itself.
use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::world::{World, ready};

async fn get(address: SocketAddr, page: &str) -> String {
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let request = format!("GET {page} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_are_measured_by_page_and_strange_ones_together() {
    let world = World::new(1, 1);
    let node = world.start(1).await;
    ready(node.broker()).await;
    let admin = node.addresses().admin;
    for _ in 0..2 {
        assert!(get(admin, "/readyz").await.starts_with("HTTP/1.1 200"));
    }
    for page in ["/nowhere", "/metrics/../secret"] {
        let answer = get(admin, page).await;
        assert!(answer.starts_with("HTTP/1.1 404") && answer.contains("there are /metrics /livez"), "{answer}");
    }
    let metrics = get(admin, "/metrics").await;
    for (page, count) in [("/readyz", 2), ("other", 2)] {
        let line = format!("flotilla_request_seconds_count{{protocol=\"admin\",api=\"{page}\"}} {count}");
        assert!(metrics.contains(&line), "{line} is not in {metrics}");
    }
    node.stop().await;
}
