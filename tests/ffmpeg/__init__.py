"""What ffmpeg is asked to do, and the fence around it."""
