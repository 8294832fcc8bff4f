use harmonium::{Cpu, Data, Device, Rows, Values};

fn load(device: &Device) -> Data<'static> {
    let values = vec![0.5; 6];
    device.load(Rows::new(Values::F32(&values), 3).unwrap()).unwrap()
}

fn main() {
    load(&Cpu::detect().unwrap().into());
}
