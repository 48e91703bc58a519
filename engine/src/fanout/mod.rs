//! Topics, their subscribers, and what a tick has published to them.

pub(crate) mod publish_log;
pub(crate) mod topic;
