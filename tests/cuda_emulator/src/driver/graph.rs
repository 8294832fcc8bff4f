//! Capture of streams, and graphs.

use std::collections::HashMap;
use std::ffi::{c_int, c_ulonglong};
use std::sync::Arc;

use super::state::{State, api};
use super::status::{Status, put};
use super::work::Work;
use crate::machine::Shuffle;

/// A node of a graph.
pub struct Node {
    work: Work,
    /// The nodes that must be done before it.
    after: Vec<usize>,
}

/// Nodes of a capture on which later work depends.
#[derive(Clone)]
pub struct Point {
    /// The capture.
    pub capture: usize,
    after: Vec<usize>,
}

/// Streams that record together.
pub struct Capture {
    nodes: Vec<Node>,
    /// The stream in which the capture began, and must end.
    origin: usize,
    /// The streams that take part, and the nodes on which their next work depends.
    streams: HashMap<usize, Vec<usize>>,
    /// Whether calls that are not part of any stream are still allowed.
    relaxed: bool,
    /// Whether a forbidden call was made.
    invalid: bool,
}

impl Capture {
    /// Marks the nodes on which some nodes depend, and these themselves.
    fn before(&self, mut open: Vec<usize>) -> Vec<bool> {
        let mut found = vec![false; self.nodes.len()];
        while let Some(node) = open.pop() {
            if !std::mem::replace(&mut found[node], true) {
                open.extend(&self.nodes[node].after);
            }
        }
        found
    }

    /// Whether the first stream's next work depends on everything that was recorded.
    fn is_joined(&self) -> bool {
        let open = self.streams.get(&self.origin).cloned().unwrap_or_default();
        self.before(open).iter().all(|&found| found)
    }

    /// Whether products of one cuBLAS handle, which share its workspace, are ordered.
    fn products_are_ordered(&self) -> bool {
        let mut last = HashMap::new();
        self.nodes.iter().enumerate().all(|(i, node)| match &node.work {
            Work::Gemm(gemm) => last.insert(gemm.handle, i).is_none_or(|last| self.before(node.after.clone())[last]),
            _ => true,
        })
    }
}

/// An order in which each node follows those that it depends on: the recorded one, or with a seed any.
fn order(nodes: &[Node], seed: Option<u64>, number: u64) -> Vec<usize> {
    if seed.is_none() {
        return (0..nodes.len()).collect();
    }
    let mut shuffle = Shuffle::new(seed, number);
    let mut missing: Vec<usize> = nodes.iter().map(|node| node.after.len()).collect();
    let mut followers = vec![Vec::new(); nodes.len()];
    for (i, node) in nodes.iter().enumerate() {
        node.after.iter().for_each(|&before| followers[before].push(i));
    }
    let mut ready: Vec<usize> = (0..nodes.len()).filter(|&i| missing[i] == 0).collect();
    let mut order = Vec::new();
    shuffle.permute(&mut ready);
    while let Some(next) = ready.pop() {
        order.push(next);
        for &follower in &followers[next] {
            missing[follower] -= 1;
            if missing[follower] == 0 {
                ready.push(follower);
            }
        }
        shuffle.permute(&mut ready);
    }
    order
}

impl State {
    /// Refuses calls that act on the whole device while any stream records.
    pub fn forbid_while_capturing(&mut self) -> Result<(), Status> {
        let mut forbidden = false;
        for capture in self.captures.values_mut().filter(|c| !c.relaxed) {
            capture.invalid = true;
            forbidden = true;
        }
        if forbidden { Err(Status::CaptureUnsupported) } else { Ok(()) }
    }

    /// Refuses to wait for a stream that records.
    pub fn forbid_on_captured(&mut self, stream: usize) -> Result<(), Status> {
        match self.capture_of(stream) {
            Some(capture) => {
                self.invalidate(capture);
                Err(Status::CaptureUnsupported)
            }
            None => Ok(()),
        }
    }

    /// The capture that a stream belongs to.
    pub fn capture_of(&self, stream: usize) -> Option<usize> {
        self.captures.iter().find(|(_, capture)| capture.streams.contains_key(&stream)).map(|(&handle, _)| handle)
    }

    /// Invalidates a capture.
    pub fn invalidate(&mut self, capture: usize) {
        if let Some(capture) = self.captures.get_mut(&capture) {
            capture.invalid = true;
        }
    }

    /// Records work of a stream that belongs to a capture.
    pub fn record(&mut self, capture: usize, stream: usize, work: Work) {
        if let Some(Capture { nodes, streams, .. }) = self.captures.get_mut(&capture) {
            let after = streams.insert(stream, vec![nodes.len()]).unwrap_or_default();
            nodes.push(Node { work, after });
        }
    }

    /// The position of a stream in its capture.
    pub fn point(&self, stream: usize) -> Option<Point> {
        let capture = self.capture_of(stream)?;
        let after = self.captures[&capture].streams[&stream].clone();
        Some(Point { capture, after })
    }

    /// Makes a stream wait for a point of a capture; from then on the stream belongs to the capture.
    pub fn join(&mut self, stream: usize, point: &Point) -> Result<(), Status> {
        if let Some(own) = self.capture_of(stream).filter(|own| *own != point.capture) {
            self.invalidate(own);
            self.invalidate(point.capture);
            return Err(Status::CaptureMerge);
        }
        // The default stream cannot be captured.
        if !self.streams.contains(&stream) {
            self.invalidate(point.capture);
            return Err(Status::CaptureUnsupported);
        }
        let capture = self.captures.get_mut(&point.capture).ok_or(Status::InvalidHandle)?;
        let after = capture.streams.entry(stream).or_default();
        after.extend(&point.after);
        after.sort_unstable();
        after.dedup();
        Ok(())
    }

    /// Forgets a destroyed stream and what it recorded.
    pub fn forget_captured(&mut self, stream: usize) {
        if let Some(capture) = self.capture_of(stream) {
            if self.captures[&capture].origin == stream {
                self.end_capture(capture);
            } else {
                self.invalidate(capture);
            }
        }
    }

    /// Ends a capture; its events count as completed.
    fn end_capture(&mut self, capture: usize) -> Option<Capture> {
        for event in self.events.values_mut() {
            event.take_if(|point| point.capture == capture);
        }
        self.captures.remove(&capture)
    }

    fn graph(&self, graph: usize) -> Result<Arc<Vec<Node>>, Status> {
        self.graphs.get(&graph).cloned().ok_or(Status::InvalidHandle)
    }

    fn forget_graph(&mut self, graph: usize) -> Result<(), Status> {
        self.graphs.remove(&graph).map(|_| ()).ok_or(Status::InvalidHandle)
    }
}

api! {
    fn cuStreamBeginCapture_v2(state, stream: usize, mode: c_int) {
        state.ready()?;
        state.check_stream(stream)?;
        // The default stream cannot be captured.
        if !state.streams.contains(&stream) {
            return Err(Status::CaptureUnsupported);
        }
        if state.capture_of(stream).is_some() {
            return Err(Status::IllegalState);
        }
        let (nodes, streams) = (Vec::new(), HashMap::from([(stream, Vec::new())]));
        let handle = state.handle();
        state.captures.insert(handle, Capture { nodes, origin: stream, streams, relaxed: mode == 2, invalid: false });
        Ok(())
    }

    fn cuStreamEndCapture(state, stream: usize, out: *mut usize) {
        state.ready()?;
        state.check_stream(stream)?;
        let handle = state.capture_of(stream).ok_or(Status::IllegalState)?;
        if state.captures[&handle].origin != stream {
            state.invalidate(handle);
            return Err(Status::CaptureUnmatched);
        }
        let capture = state.end_capture(handle).ok_or(Status::IllegalState)?;
        if capture.invalid || !capture.is_joined() {
            put(out, 0)?;
            return Err(if capture.invalid { Status::CaptureInvalidated } else { Status::CaptureUnjoined });
        }
        if !capture.products_are_ordered() {
            eprintln!("cuda emulator: race: products of one cuBLAS handle are unordered in a graph");
            put(out, 0)?;
            return Err(Status::LaunchFailed);
        }
        let handle = state.handle();
        put(out, handle)?;
        state.graphs.insert(handle, Arc::new(capture.nodes));
        Ok(())
    }

    fn cuStreamIsCapturing(state, stream: usize, out: *mut c_int) {
        state.check_stream(stream)?;
        put(out, match state.capture_of(stream).map(|capture| &state.captures[&capture]) {
            None => 0,
            Some(capture) if capture.invalid => 2,
            Some(_) => 1,
        })
    }

    fn cuGraphInstantiateWithFlags(state, out: *mut usize, graph: usize, _flags: c_ulonglong) {
        state.ready()?;
        state.check_memory_outside_pools()?;
        let nodes = state.graph(graph)?;
        let handle = state.handle();
        put(out, handle)?;
        state.graphs.insert(handle, nodes);
        Ok(())
    }

    fn cuGraphUpload(state, graph: usize, stream: usize) {
        state.ready()?;
        state.check_stream(stream)?;
        state.graph(graph).map(|_| ())
    }

    fn cuGraphLaunch(state, graph: usize, stream: usize) {
        let nodes = state.graph(graph)?;
        state.trace(format_args!("graph of {}", nodes.len()));
        state.graph_launches += 1;
        for node in order(&nodes, state.settings.seed, !state.graph_launches) {
            state.enqueue(stream, nodes[node].work.clone())?;
            // A fault ends the graph; later calls report it.
            if state.sticky.is_some() {
                break;
            }
        }
        Ok(())
    }

    fn cuGraphExecDestroy(state, graph: usize) {
        state.forget_graph(graph)
    }

    fn cuGraphDestroy(state, graph: usize) {
        state.forget_graph(graph)
    }
}
