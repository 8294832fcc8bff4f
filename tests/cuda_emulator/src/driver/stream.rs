//! Streams and events. Work is done at once, so every event has completed when it is recorded.

use std::ffi::{c_int, c_uint};

use super::graph::Point;
use super::state::{State, api};
use super::status::{Status, put};

/// Handles below this are the default streams: null, legacy and per-thread.
const NAMED: usize = 3;

impl State {
    /// Rejects handles that are not streams.
    pub fn check_stream(&self, stream: usize) -> Result<(), Status> {
        match stream < NAMED || self.streams.contains(&stream) {
            true => Ok(()),
            false => Err(Status::InvalidHandle),
        }
    }

    fn event(&mut self, event: usize) -> Result<&mut Option<Point>, Status> {
        self.events.get_mut(&event).ok_or(Status::InvalidHandle)
    }

    fn new_stream(&mut self, out: *mut usize) -> Result<(), Status> {
        self.ready()?;
        self.check_memory_outside_pools()?;
        let handle = self.handle();
        put(out, handle)?;
        self.streams.insert(handle);
        Ok(())
    }
}

api! {
    fn cuStreamCreate(state, out: *mut usize, _flags: c_uint) {
        state.new_stream(out)
    }

    fn cuStreamCreateWithPriority(state, out: *mut usize, _flags: c_uint, _priority: c_int) {
        state.new_stream(out)
    }

    fn cuCtxGetStreamPriorityRange(state, least: *mut c_int, greatest: *mut c_int) {
        state.ready()?;
        put(least, 0)?;
        put(greatest, 0)
    }

    fn cuStreamDestroy_v2(state, stream: usize) {
        state.forget_captured(stream);
        match state.streams.remove(&stream) {
            true => Ok(()),
            false => Err(Status::InvalidHandle),
        }
    }

    fn cuStreamSynchronize(state, stream: usize) {
        state.ready()?;
        state.check_stream(stream)?;
        state.forbid_on_captured(stream)?;
        state.returned = 0;
        Ok(())
    }

    fn cuStreamQuery(state, stream: usize) {
        state.ready()?;
        state.check_stream(stream)?;
        state.forbid_on_captured(stream)
    }

    fn cuStreamWaitEvent(state, stream: usize, event: usize, _flags: c_uint) {
        state.ready()?;
        state.check_stream(stream)?;
        match (state.event(event)?.clone(), state.capture_of(stream)) {
            (Some(point), _) => state.join(stream, &point),
            (None, None) => Ok(()),
            (None, Some(capture)) => {
                state.invalidate(capture);
                Err(Status::CaptureIsolation)
            }
        }
    }

    fn cuEventCreate(state, out: *mut usize, _flags: c_uint) {
        state.ready()?;
        let handle = state.handle();
        put(out, handle)?;
        state.events.insert(handle, None);
        Ok(())
    }

    fn cuEventDestroy_v2(state, event: usize) {
        state.events.remove(&event).map(|_| ()).ok_or(Status::InvalidHandle)
    }

    fn cuEventRecord(state, event: usize, stream: usize) {
        state.ready()?;
        state.check_stream(stream)?;
        let point = state.point(stream);
        *state.event(event)? = point;
        Ok(())
    }

    fn cuEventSynchronize(state, event: usize) {
        state.ready()?;
        if state.event(event)?.is_some() {
            return Err(Status::CapturedEvent);
        }
        state.returned = 0;
        Ok(())
    }

    fn cuEventQuery(state, event: usize) {
        state.ready()?;
        match state.event(event)? {
            None => Ok(()),
            Some(_) => Err(Status::CapturedEvent),
        }
    }

    fn cuEventElapsedTime(state, out: *mut f32, start: usize, end: usize) {
        state.ready()?;
        state.event(start)?;
        state.event(end)?;
        put(out, 0.0)
    }

    fn cuEventElapsedTime_v2(state, out: *mut f32, start: usize, end: usize) {
        state.ready()?;
        state.event(start)?;
        state.event(end)?;
        put(out, 0.0)
    }
}
