//! One step of a rollout: which ReplicaSet grows, which shrinks.

use std::cmp::Reverse;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{DeploymentSpec, ReplicaSet};
use serde_json::json;

use super::{DESIRED_REPLICAS, Limits, MAX_REPLICAS, Member, REVISION, Snapshot, history, revision, status};
use crate::controllers::action::{Plan, Write};
use crate::controllers::object;

/// A Deployment's ReplicaSets while a plan is being made.
pub(super) struct Rollout<'a> {
    pub(super) snapshot: &'a Snapshot,
    pub(super) spec: &'a DeploymentSpec,
    pub(super) limits: Limits,
    pub(super) now: Timestamp,
    /// The ReplicaSet with the current template.
    pub(super) new: Option<Member>,
    /// The others, oldest first.
    pub(super) old: Vec<Member>,
    /// How often a name was taken by a stranger.
    pub(super) collisions: i32,
    pub(super) report: Vec<String>,
}

impl<'a> Rollout<'a> {
    pub(super) fn new(
        snapshot: &'a Snapshot,
        spec: &'a DeploymentSpec,
        mut sets: Vec<Arc<ReplicaSet>>,
        now: Timestamp,
    ) -> Self {
        sets.sort_by_key(|set| age_key(set));
        let mut new = None;
        let mut old = Vec::new();
        for set in &sets {
            let template = set.spec.as_ref().and_then(|spec| spec.template.as_ref());
            let current = template.is_some_and(|template| revision::same_template(template, &spec.template));
            if current && new.is_none() {
                new = Some(Member::existing(set));
            } else {
                old.push(Member::existing(set));
            }
        }
        let status = snapshot.deployment.status.as_ref();
        let collisions = status.and_then(|status| status.collision_count).unwrap_or(0);
        let limits = Limits::of(spec);
        Rollout { snapshot, spec, limits, now, new, old, collisions, report: Vec::new() }
    }

    /// Takes the one step that is due.
    pub(super) fn decide(&mut self) {
        let paused = self.spec.paused == Some(true);
        self.refresh_new();
        if paused || self.is_scaling() {
            self.scale();
            return;
        }
        if self.limits.rolling {
            self.roll();
        } else {
            self.recreate();
        }
    }

    /// Whether the Deployment was resized since its ReplicaSets were last scaled.
    fn is_scaling(&self) -> bool {
        self.members().filter(|member| member.size() > 0).any(|member| {
            let noted = object::annotation(&member.set.metadata, DESIRED_REPLICAS);
            let noted: Option<i32> = noted.and_then(|text| text.parse().ok());
            noted.is_some_and(|noted| noted != self.limits.desired)
        })
    }

    pub(super) fn members(&self) -> impl Iterator<Item = &Member> {
        self.old.iter().chain(&self.new)
    }

    fn total(&self) -> i32 {
        self.members().map(Member::size).sum()
    }

    fn next_revision(&self) -> i64 {
        self.old.iter().map(|member| revision::number(&member.set)).max().unwrap_or(0) + 1
    }

    fn refresh_new(&mut self) {
        let next = self.next_revision();
        let Some(new) = self.new.as_mut() else { return };
        revision::annotate(new, &self.snapshot.deployment, next);
        let min_ready = self.spec.min_ready_seconds;
        if let Some(spec) = new.set.spec.as_mut()
            && spec.min_ready_seconds.unwrap_or(0) != min_ready.unwrap_or(0)
        {
            spec.min_ready_seconds = min_ready;
            new.changed = true;
        }
    }

    /// Makes the new ReplicaSet if there is none, at the size it may have at once.
    fn ensure_new(&mut self) {
        if self.new.is_some() {
            return;
        }
        let deployment = &*self.snapshot.deployment;
        let hash = revision::hash(&self.spec.template, self.collisions);
        let set = revision::make(deployment, self.spec, &hash);
        let name = object::name(&set.metadata);
        if self.snapshot.taken_names.contains(name) {
            self.report.push(format!("the name {name} is taken: picks another"));
            self.collisions += 1;
            return;
        }
        self.report.push(format!("makes {name}"));
        let mut member = Member { set, was: None, changed: true };
        revision::annotate(&mut member, deployment, self.next_revision());
        member.set_size(self.grown(0));
        revision::annotate_size(&mut member, self.limits);
        self.new = Some(member);
    }

    /// The size that a new ReplicaSet of size `now` may grow to.
    fn grown(&self, now: i32) -> i32 {
        if !self.limits.rolling {
            return self.limits.desired;
        }
        let room = self.limits.desired.saturating_add(self.limits.surge) - self.total();
        now + room.min(self.limits.desired - now).max(0)
    }

    fn roll(&mut self) {
        let existed = self.new.is_some();
        self.ensure_new();
        if self.new.is_none() || !existed {
            return;
        }
        if !self.scale_new() {
            self.shrink_old();
        }
    }

    fn scale_new(&mut self) -> bool {
        let Some(size) = self.new.as_ref().map(Member::size) else { return false };
        let wanted = if size > self.limits.desired { self.limits.desired } else { self.grown(size) };
        let limits = self.limits;
        let Some(new) = self.new.as_mut() else { return false };
        resize(new, wanted, limits);
        wanted != size
    }

    /// Shrinks old ReplicaSets as far as availability allows: pods that are not available first,
    /// since nothing is lost with them.
    fn shrink_old(&mut self) {
        let limits = self.limits;
        let old_pods: i32 = self.old.iter().map(Member::size).sum();
        if old_pods == 0 {
            return;
        }
        let new_unavailable = self.new.as_ref().map_or(0, |new| new.size() - new.available());
        let spare = self.total() - limits.fewest_available() - new_unavailable;
        if spare <= 0 {
            self.report.push("waits for new pods to become available".to_owned());
            return;
        }
        let mut cleaned = 0;
        for member in &mut self.old {
            let unavailable = (member.size() - member.available()).max(0);
            let count = unavailable.min(spare - cleaned).min(member.size());
            if count > 0 {
                resize(member, member.size() - count, limits);
                cleaned += count;
            }
        }
        let available: i32 = self.members().map(Member::available).sum();
        let mut surplus = available - limits.fewest_available();
        for member in &mut self.old {
            let count = member.size().min(surplus);
            if count > 0 {
                resize(member, member.size() - count, limits);
                surplus -= count;
            }
        }
    }

    fn recreate(&mut self) {
        let limits = self.limits;
        if self.old.iter().any(|member| member.size() > 0) {
            for member in &mut self.old {
                resize(member, 0, limits);
            }
            return;
        }
        if self.old_pods_run() {
            self.report.push("waits for old pods to end".to_owned());
            return;
        }
        self.ensure_new();
        if let Some(new) = self.new.as_mut() {
            resize(new, limits.desired, limits);
        }
    }

    fn old_pods_run(&self) -> bool {
        let new_uid = self.new.as_ref().map(|new| object::uid(&new.set.metadata));
        self.snapshot.pods.iter().any(|pod| {
            let owner = object::controller_of(&pod.metadata).map(|owner| owner.uid.as_str());
            let ours = self.old.iter().any(|old| Some(object::uid(&old.set.metadata)) == owner);
            ours && owner != new_uid && !object::is_finished(pod)
        })
    }

    /// Brings the Deployment to its size without moving a rollout forward.
    fn scale(&mut self) {
        let limits = self.limits;
        let sizes: Vec<i32> = self.members().map(Member::size).collect();
        if sizes.iter().filter(|size| **size > 0).count() <= 1 {
            // The only one that runs pods, or else the newest.
            let active = sizes.iter().position(|size| *size > 0);
            let at = active.or_else(|| sizes.len().checked_sub(1));
            let mut all = self.old.iter_mut().chain(&mut self.new);
            if let Some(member) = at.and_then(|at| all.nth(at)) {
                resize(member, limits.desired, limits);
            }
            return;
        }
        if self.is_saturated() {
            for member in &mut self.old {
                resize(member, 0, limits);
            }
        } else if limits.rolling {
            self.scale_in_proportion();
        }
    }

    /// Whether the new ReplicaSet already does all the work.
    fn is_saturated(&self) -> bool {
        self.new.as_ref().is_some_and(|new| {
            let noted = object::annotation(&new.set.metadata, DESIRED_REPLICAS);
            new.size() == self.limits.desired
                && noted == Some(self.limits.desired.to_string().as_str())
                && new.available() == self.limits.desired
        })
    }

    fn scale_in_proportion(&mut self) {
        let limits = self.limits;
        let status = self.snapshot.deployment.status.as_ref();
        let running = status.and_then(|status| status.replicas).unwrap_or(0);
        let to_add = limits.most() - self.total();
        let mut active: Vec<&mut Member> =
            self.old.iter_mut().chain(&mut self.new).filter(|member| member.size() > 0).collect();
        // Growing favours the large and new, shrinking the large and old.
        active.sort_by_key(|member| {
            let age = age_key(&member.set);
            (Reverse(member.size()), if to_add > 0 { Err(Reverse(age)) } else { Ok(age) })
        });
        let mut added = 0;
        let mut sizes = Vec::with_capacity(active.len());
        for member in &active {
            let share = if to_add == added { 0 } else { share(member, limits, running) };
            let left = to_add - added;
            let share = if to_add > 0 { share.min(left) } else { share.max(left) };
            added += share;
            sizes.push(member.size() + share);
        }
        if let Some(first) = sizes.first_mut() {
            *first = (*first + to_add - added).max(0);
        }
        for (member, size) in active.into_iter().zip(sizes) {
            resize(member, size.max(0), limits);
        }
    }

    /// Turns what was decided into actions, and adds the status.
    pub(super) fn finish(self, mut plan: Plan) -> Plan {
        let deployment = &*self.snapshot.deployment;
        let regarding = object::reference(deployment);
        // Shrinking first keeps quotas and nodes from being exceeded for a moment.
        for member in self.old.iter().chain(&self.new) {
            member.write(regarding.clone(), &mut plan);
        }
        history::trim(&self, &mut plan);
        status::update(&self, &mut plan);
        if let Some(new) = &self.new {
            let number = revision::number(&new.set).to_string();
            if object::annotation(&deployment.metadata, REVISION) != Some(number.as_str()) {
                let patch = json!({ "metadata": { "annotations": { REVISION: number } } });
                plan.write(Write::merge(deployment, patch));
            }
        }
        plan.report.extend(self.report);
        plan
    }
}

/// Oldest first; of the same second, by name.
fn age_key(set: &ReplicaSet) -> (Option<Timestamp>, String) {
    let created = set.metadata.creation_timestamp.as_ref().map(|time| time.0);
    (created, object::name(&set.metadata).to_owned())
}

fn resize(member: &mut Member, size: i32, limits: Limits) {
    member.set_size(size);
    revision::annotate_size(member, limits);
}

/// By how much a ReplicaSet's share of the Deployment changes with the Deployment's size.
fn share(member: &Member, limits: Limits, running: i32) -> i32 {
    let size = member.size();
    if limits.desired == 0 {
        return -size;
    }
    let noted = object::annotation(&member.set.metadata, MAX_REPLICAS);
    let before = noted.and_then(|text| text.parse().ok()).filter(|most: &i32| *most > 0);
    let before = i64::from(before.unwrap_or(running).max(1));
    let most = i64::from(limits.desired) + i64::from(limits.surge);
    // Rounded to the nearest.
    let scaled = (i64::from(size) * most * 2 + before) / (before * 2);
    i32::try_from(scaled).unwrap_or(i32::MAX) - size
}
