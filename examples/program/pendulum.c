/* A pendulum with friction: reads a file of parameters, writes a table of times and angles.

   cc -O2 pendulum.c -o pendulum -lm; ./pendulum INPUT OUTPUT */

#include <math.h>
#include <stdio.h>

int main(int argc, char **argv)
{
    double length, friction, angle, speed = 0.0, step = 1e-3;
    FILE *in = argc == 3 ? fopen(argv[1], "r") : NULL, *out = argc == 3 ? fopen(argv[2], "w") : NULL;
    if (!in || !out || fscanf(in, "length = %lf\nfriction = %lf\nangle = %lf", &length, &friction, &angle) != 3)
        return 1;
    fprintf(out, "time_s,angle\n");
    for (int i = 0; i <= 10000; i++) {
        if (i % 250 == 0)
            fprintf(out, "%.2f,%.15g\n", i * step, angle);
        speed -= step * (9.81 / length * sin(angle) + friction * speed);
        angle += step * speed;
    }
    return fclose(out) != 0;
}
