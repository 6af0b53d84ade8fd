//! Members that join, are promoted, move and leave.

use std::sync::Arc;

use skiff_store::Cluster;
use skiff_store::error::{ApiError, Error};

use super::member::cluster;
use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_learner_joins_is_promoted_and_another_member_is_removed() {
    let mut members = cluster(3, &Arc::default(), |_| ()).await;
    put(&members[0], "key", "1").await;
    let mut joining = Member::joining("m3", &members.iter().collect::<Vec<_>>());
    let (added, all) = eventually("a learner is added", async || {
        members[0].node().add(vec![joining.url()], true).await.map_err(|error| error.to_string())
    })
    .await;
    assert_eq!((all.len(), added.is_learner), (4, true));

    let early = members[0].node().promote(added.id).await.unwrap_err();
    assert!(matches!(early, Error::Api(ApiError::LearnerNotReady)), "{early}");
    joining.start().await;
    assert_eq!(joining.node().id(), added.id);
    let all = eventually("the learner is promoted", async || {
        members[0].node().promote(added.id).await.map_err(|error| error.to_string())
    });
    assert!(all.await.iter().all(|member| !member.is_learner));

    let mut leaving = members.remove(2);
    let left = eventually("a member is removed", async || {
        members[0].node().remove(leaving.node().id()).await.map_err(|error| error.to_string())
    });
    assert_eq!(left.await.len(), 3);
    leaving.kill().await;
    put(&joining, "key", "2").await;
    agree(&[&joining, &members[0], &members[1]]).await;
    assert_eq!(get(&joining, "key", false).await.unwrap().as_deref(), Some("2"));
}
