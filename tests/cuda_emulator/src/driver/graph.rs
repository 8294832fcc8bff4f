//! Capture of streams, and graphs.

use std::ffi::{c_int, c_ulonglong};
use std::sync::Arc;

use super::state::{State, api};
use super::status::{Status, put};
use super::work::Work;

/// A stream that records.
pub struct Capture {
    /// What was recorded.
    pub work: Vec<Work>,
    /// Whether calls that are not part of any stream are still allowed.
    relaxed: bool,
    /// A forbidden call was made.
    invalid: bool,
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
        match self.captures.contains_key(&stream) {
            true => {
                self.invalidate(stream);
                Err(Status::CaptureUnsupported)
            }
            false => Ok(()),
        }
    }

    /// Spoils the capture of a stream.
    pub fn invalidate(&mut self, stream: usize) {
        if let Some(capture) = self.captures.get_mut(&stream) {
            capture.invalid = true;
        }
    }

    fn graph(&self, graph: usize) -> Result<Arc<Vec<Work>>, Status> {
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
        if state.captures.contains_key(&stream) {
            return Err(Status::IllegalState);
        }
        let capture = Capture { work: Vec::new(), relaxed: mode == 2, invalid: false };
        state.captures.insert(stream, capture);
        Ok(())
    }

    fn cuStreamEndCapture(state, stream: usize, out: *mut usize) {
        state.ready()?;
        state.check_stream(stream)?;
        let capture = state.captures.remove(&stream).ok_or(Status::IllegalState)?;
        for event in state.events.values_mut().filter(|event| **event == Some(stream)) {
            *event = None;
        }
        if capture.invalid {
            put(out, 0)?;
            return Err(Status::CaptureInvalidated);
        }
        let handle = state.handle();
        put(out, handle)?;
        state.graphs.insert(handle, Arc::new(capture.work));
        Ok(())
    }

    fn cuStreamIsCapturing(state, stream: usize, out: *mut c_int) {
        state.check_stream(stream)?;
        put(out, match state.captures.get(&stream) {
            None => 0,
            Some(capture) if capture.invalid => 2,
            Some(_) => 1,
        })
    }

    fn cuGraphInstantiateWithFlags(state, out: *mut usize, graph: usize, _flags: c_ulonglong) {
        state.ready()?;
        let work = state.graph(graph)?;
        let handle = state.handle();
        put(out, handle)?;
        state.graphs.insert(handle, work);
        Ok(())
    }

    fn cuGraphUpload(state, graph: usize, stream: usize) {
        state.ready()?;
        state.check_stream(stream)?;
        state.graph(graph).map(|_| ())
    }

    fn cuGraphLaunch(state, graph: usize, stream: usize) {
        let work = state.graph(graph)?;
        state.trace(format_args!("graph of {}", work.len()));
        for work in work.iter() {
            state.enqueue(stream, work.clone())?;
            // A fault ends the graph, and is seen by the calls that follow.
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
