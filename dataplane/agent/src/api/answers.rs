//! What can be asked of an agent, and the answers: one place for the local API and for the operator.

use std::sync::{Arc, PoisonError};

use callgate_proto::pb;
use tonic::Status;

use super::{calls, explain, shared, status};
use crate::alg::{Handle, Totals};
use crate::kernel::{Counters, Error, Kernel};
use crate::run::{Report, SharedKernel};

/// Answers from the report, the ALG and the kernel.
#[derive(Clone)]
pub struct Answers {
    pub(super) report: Arc<Report>,
    pub(super) handle: Handle,
    kernel: SharedKernel,
}

impl Answers {
    pub(crate) fn new(report: &Arc<Report>, handle: Handle, kernel: &SharedKernel) -> Self {
        Self { report: Arc::clone(report), handle, kernel: Arc::clone(kernel) }
    }

    /// What this agent runs and how it is.
    ///
    /// # Errors
    /// ABORTED when the ALG has ended.
    pub async fn status(&self) -> Result<pb::StatusReply, Status> {
        let totals = self.totals().await?;
        Ok(status::reply(&self.report, totals, &self.kernel_counters(Kernel::counters).await))
    }

    /// All live calls.
    ///
    /// # Errors
    /// As `status`.
    pub async fn calls(&self) -> Result<pb::CallList, Status> {
        let (all, now) = self.handle.calls().await.ok_or_else(ended)?;
        Ok(calls::list(all, now, &self.report.holders()))
    }

    /// Which rule a packet would meet.
    ///
    /// # Errors
    /// NOT_FOUND or INVALID_ARGUMENT, with the field.
    pub async fn explain(&self, request: pb::ExplainRequest) -> Result<pb::ExplainReply, Status> {
        let report = Arc::clone(&self.report);
        let answer = tokio::task::spawn_blocking(move || explain::answer(&report, &request, &mut explain::Kernel));
        answer.await.map_err(|error| Status::internal(error.to_string()))?
    }

    /// What an agent counts, for whoever adds it up over nodes.
    ///
    /// # Errors
    /// As `status`.
    pub async fn report(&self) -> Result<pb::Report, Status> {
        let totals = self.totals().await?;
        let (by, kernel) = (totals.by.clone(), self.kernel_counters(Kernel::alg_counters).await);
        let shared_servers = shared::servers(&totals, shared::boot_unix_ms());
        let status = status::reply(&self.report, totals, &kernel);
        let objects = |counts: std::collections::BTreeMap<String, u64>| {
            counts.into_iter().map(|(name, calls)| pb::ObjectCalls { name, calls }).collect()
        };
        Ok(pb::Report {
            config_hash: status.config_hash,
            counters: status.counters,
            connections: status.connections,
            calls: status.calls,
            rules: by.rules.into_iter().map(|(rule, calls)| pb::RuleCalls { rule, calls }).collect(),
            path: status.path,
            services: objects(by.services),
            algs: objects(by.algs),
            shared_servers,
        })
    }

    async fn totals(&self) -> Result<Totals, Status> {
        self.handle.totals().await.ok_or_else(ended)
    }

    /// What the kernel counts; nothing while it is being stopped.
    async fn kernel_counters(&self, read: fn(&mut Kernel) -> Result<Counters, Error>) -> Counters {
        let kernel = Arc::clone(&self.kernel);
        // A large configuration may be on its way into the kernel: wait for it elsewhere.
        let counted = tokio::task::spawn_blocking(move || {
            let mut guard = kernel.lock().unwrap_or_else(PoisonError::into_inner);
            guard.as_mut().map(|shared| read(&mut shared.kernel))
        });
        match counted.await {
            Ok(Some(Ok(counters))) => counters,
            Ok(Some(Err(error))) => {
                tracing::warn!("{error}");
                Counters::default()
            }
            Ok(None) | Err(_) => Counters::default(),
        }
    }
}

pub(super) fn ended() -> Status {
    Status::aborted("the ALG has ended: the agent is stopping, or its log says why")
}
