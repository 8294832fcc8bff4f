//! Numbers in device memory, and their addresses as kernels take them.

use super::failure::{failed, no_memory};
use crate::error::Result;
use cudarc::driver::{CudaSlice, CudaStream, DevicePtr, DeviceRepr, ValidAsZeroBits};
use std::{marker::PhantomData, sync::Arc};

/// Numbers in device memory, released in stream order. An empty buffer has no memory, because the driver allocates no memory of
/// size 0.
#[derive(Debug)]
pub(super) struct Buffer<T>(Option<CudaSlice<T>>);

impl<T: DeviceRepr + ValidAsZeroBits + Copy + Default> Buffer<T> {
    pub const EMPTY: Self = Self(None);

    /// `len` zeros.
    pub fn zeros(stream: &Arc<CudaStream>, len: usize) -> Result<Self> {
        let made = (len > 0).then(|| stream.alloc_zeros(len)).transpose();
        made.map(Self).map_err(|error| no_memory::<T>(error, len))
    }

    /// A copy of the host's numbers.
    pub fn of(stream: &Arc<CudaStream>, values: &[T]) -> Result<Self> {
        let mut new = Self::zeros(stream, values.len())?;
        new.write(stream, values)?;
        Ok(new)
    }

    /// A copy of this buffer.
    pub fn copy(&self, stream: &Arc<CudaStream>) -> Result<Self> {
        let mut new = Self::zeros(stream, self.len())?;
        if let (Self(Some(from)), Self(Some(to))) = (self, &mut new) {
            stream.memcpy_dtod(from, to).map_err(failed("copy"))?;
        }
        Ok(new)
    }

    /// Replaces the buffer by `len` zeros if it has room for fewer. Returns whether it did.
    pub fn grow(&mut self, stream: &Arc<CudaStream>, len: usize) -> Result<bool> {
        let grows = self.len() < len;
        if grows {
            *self = Self::zeros(stream, len)?;
        }
        Ok(grows)
    }

    /// Writes the first numbers.
    pub fn write(&mut self, stream: &Arc<CudaStream>, values: &[T]) -> Result<()> {
        match &mut self.0 {
            Some(to) if !values.is_empty() => stream.memcpy_htod(values, to).map_err(failed("copy to the device")),
            _ => Ok(()),
        }
    }

    /// All numbers, after all earlier work of the stream.
    pub fn read(&self, stream: &Arc<CudaStream>) -> Result<Vec<T>> {
        let mut values = vec![T::default(); self.len()];
        if let Some(from) = &self.0 {
            stream.memcpy_dtoh(from, &mut values).map_err(failed("copy from the device"))?;
        }
        stream.synchronize().map_err(failed("work on the device"))?;
        Ok(values)
    }

    /// Sets all numbers to 0.
    pub fn clear(&mut self, stream: &Arc<CudaStream>) -> Result<()> {
        self.0.as_mut().map_or(Ok(()), |all| stream.memset_zeros(all)).map_err(failed("memset"))
    }

    pub fn len(&self) -> usize {
        self.0.as_ref().map_or(0, CudaSlice::len)
    }

    /// Null for an empty buffer.
    pub fn ptr(&self) -> Ptr<T> {
        let address = self.0.as_ref().map_or(0, |all| all.device_ptr(all.stream()).0);
        Ptr { address, of: PhantomData }
    }
}

/// The address of numbers in device memory. Whoever passes it on keeps the [`Buffer`] alive until the launch is in the stream.
#[repr(transparent)]
#[derive(Debug)]
pub(super) struct Ptr<T> {
    pub address: u64,
    of: PhantomData<*const T>,
}

impl<T> Clone for Ptr<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Ptr<T> {}

impl<T> Ptr<T> {
    /// The kernels take this as an absent argument.
    pub const NULL: Self = Self { address: 0, of: PhantomData };

    pub fn offset(self, elements: usize) -> Self {
        Self { address: self.address + (elements * size_of::<T>()) as u64, of: PhantomData }
    }

    /// The same address with another type.
    pub fn cast<U>(self) -> Ptr<U> {
        Ptr { address: self.address, of: PhantomData }
    }
}
